#!/bin/bash
# Adds Debian's qemu-guest-agent to the guest of the real tests: prints the path of an initramfs that has both.
# The guest is to be started with rdinit=/agent-init; FORCE=1 rebuilds.
set -euo pipefail
folder=$(env -u FORCE bash "$(dirname "$0")/build.sh")
exec 9>"$folder/agent.lock"; flock 9
image=$folder/initrd-agent.img
if [ -z "${FORCE:-}" ] && [ -s "$image" ] && [ ! "$folder/initrd.img" -nt "$image" ]; then echo "$image"; exit 0; fi
export PATH=$PATH:/sbin:/usr/sbin
command -v qemu-ga >/dev/null || { echo "missing: qemu-ga (Debian: qemu-guest-agent)" >&2; exit 1; }
work=$(mktemp -d "${TMPDIR:-/tmp}/virtroupe-agent.XXXXXX"); trap 'rm -rf "$work"' EXIT
cd "$work"; mkdir -p root/{bin,sbin,etc,run,root,usr/sbin,var/run}
copy() { install -D -m755 "$1" "root/$2"; ldd "$1" | grep -oE '/[^ ]+' | while read -r file; do install -D -m755 "$file" "root$file"; done; }
copy "$(command -v qemu-ga)" bin/qemu-ga
echo 'root:x:0:0:root:/root:/bin/sh' > root/etc/passwd; echo 'root::0:0:99999:7:::' > root/etc/shadow; echo 'root:x:0:' > root/etc/group
printf 'NAME="Test Guest"\nID=testguest\nVERSION_ID=1\n' > root/etc/os-release
printf '#!/bin/sh\ncase "$*" in *-r*) exec reboot -f;; *) exec poweroff -f;; esac\n' > root/sbin/shutdown
printf '#!/bin/sh\nread line; echo "$line" > /run/chpasswd; echo "VIRTROUPE-PASSWORD $line" > /dev/console\n' > root/usr/sbin/chpasswd
ln -s /bin/busybox root/sbin/hwclock
cat > root/agent-init <<'EOI'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/sbin:/usr/sbin HOME=/root
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
while read m; do insmod /lib/mod/$m 2>/dev/null; done < /lib/mod/order
hostname test-guest; ip link set lo up
for p in /sys/class/virtio-ports/*; do [ -f $p/name ] || continue
  read name < $p/name; mkdir -p /dev/virtio-ports; ln -sf ../${p##*/} /dev/virtio-ports/$name
  [ "$name" = org.qemu.guest_agent.0 ] && ( while :; do qemu-ga -m virtio-serial -p /dev/virtio-ports/$name -t /run -l /run/agent.log; sleep 1; done & )
done
grep -q count-aloud /proc/cmdline && ( n=0; while :; do n=$((n+1)); echo "VIRTROUPE-COUNT $n" > /dev/console; usleep 100000; done & )
exec /init
EOI
chmod +x root/agent-init root/sbin/shutdown root/usr/sbin/chpasswd
( cd root && find . | cpio -o -H newc --quiet | gzip -6 ) > agent.img
cat "$folder/initrd.img" agent.img > "$image.new"; mv "$image.new" "$image"
echo "$image"
