#!/bin/bash
# Builds the guest of the real tests: Debian's cloud kernel and a small initramfs around busybox.
# Prints the folder that then holds vmlinuz, initrd.img and disk.qcow2; does nothing when they are there. FORCE=1 rebuilds.
# The guest prints VIRTROUPE-GUEST-READY on its serial console and powers off when the ACPI power button is pressed.
set -euo pipefail
if [ "$(id -u)" = 0 ]; then default=/var/cache/virtroupe-tests; else default=${XDG_CACHE_HOME:-$HOME/.cache}/virtroupe-tests; fi
cache=${VIRTROUPE_TEST_CACHE:-$default}/guest
mkdir -p "$cache"
exec 9>"$cache/lock"; flock 9
made_by=$(sha256sum < "$0"); known=$(cat "$cache/made-by" 2>/dev/null || true)
if [ -z "${FORCE:-}" ] && [ "$known" = "$made_by" ] && [ -s "$cache/vmlinuz" ] && [ -s "$cache/initrd.img" ] && [ -s "$cache/disk.qcow2" ]; then echo "$cache"; exit 0; fi
for program in busybox cpio depmod qemu-img apt-get dpkg-deb; do
  PATH=$PATH:/sbin:/usr/sbin command -v "$program" >/dev/null || { echo "missing: $program (Debian: busybox-static cpio kmod qemu-utils)" >&2; exit 1; }
done
export PATH=$PATH:/sbin:/usr/sbin
work=$(mktemp -d "${TMPDIR:-/tmp}/virtroupe-guest.XXXXXX"); trap 'rm -rf "$work"' EXIT
cd "$work"; mkdir -p debs unpacked root/{bin,dev,proc,sys,lib/mod,tmp,mnt}
( cd debs &&
  kernel=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-6/{print $2; exit}') &&
  apt-get -o APT::Sandbox::User=root download "$kernel" >&2 &&
  for deb in *.deb; do dpkg-deb -x "$deb" ../unpacked || exit 1; done ) || {
  # without a mirror an older guest is better than none
  [ -s "$cache/vmlinuz" ] && [ -s "$cache/initrd.img" ] && [ -s "$cache/disk.qcow2" ] && echo "$cache" && exit 0
  exit 1; }
version=$(basename "$(ls -d unpacked/lib/modules/*)"); depmod -b unpacked "$version"
cp /bin/busybox root/bin/busybox
for module in virtio_pci virtio_blk virtio_net virtio_console virtio_balloon virtio_rng e1000 e1000e ahci sd_mod sr_mod virtio_scsi virtio_mem button evdev; do
  modprobe -d unpacked -S "$version" --show-depends "$module" 2>/dev/null | awk '$1=="insmod"{print $2}' || true
done | awk '!seen[$0]++' > order
while read -r file; do cp "$file" root/lib/mod/; basename "$file" >> root/lib/mod/order; done < order
# for who shares a folder: load-shared
for module in virtiofs; do
  modprobe -d unpacked -S "$version" --show-depends "$module" 2>/dev/null | awk '$1=="insmod"{print $2}' || true
done | awk '!seen[$0]++' > order
while read -r file; do cp "$file" root/lib/mod/; basename "$file" >> root/lib/mod/shared; done < order
printf '#!/bin/busybox sh\nwhile read m; do insmod /lib/mod/$m 2>/dev/null; done < /lib/mod/shared\n' > root/bin/load-shared
chmod +x root/bin/load-shared
cat > root/init <<'EOI'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
while read m; do insmod /lib/mod/$m 2>/dev/null; done < /lib/mod/order
for e in /dev/input/event*; do [ -e $e ] || continue
  read name < /sys/class/input/${e##*/}/device/name
  [ "$name" = "Power Button" ] && ( dd if=$e bs=24 count=1 >/dev/null 2>&1 && echo VIRTROUPE-GUEST-POWEROFF && poweroff -f ) &
done
echo "VIRTROUPE-GUEST-READY $(cut -d' ' -f1 /proc/uptime) mem $(awk '/MemTotal/{print $2}' /proc/meminfo) net $(ls /sys/class/net | tr '\n' ' ')disk $(ls /sys/block | tr '\n' ' ')"
while :; do setsid cttyhack sh; done
EOI
chmod +x root/init
( cd root && find . | cpio -o -H newc --quiet | gzip -6 ) > initrd.img
qemu-img create -q -f qcow2 disk.qcow2 64M
# whoever starts a guest meanwhile has the old files or the new ones
cp "unpacked/boot/vmlinuz-$version" "$cache/vmlinuz.new"; cp initrd.img "$cache/initrd.img.new"; cp disk.qcow2 "$cache/disk.qcow2.new"
for name in vmlinuz initrd.img disk.qcow2; do mv "$cache/$name.new" "$cache/$name"; done
echo "$made_by" > "$cache/made-by"
echo "$cache"
