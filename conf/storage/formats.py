"""Which formats the kinds of pools know: of what they come from, and of the volumes in them."""

from __future__ import annotations

from typing import Final

from conf.storage.pool import PoolType

POOL_FORMATS: Final[dict[PoolType, tuple[str, ...]]] = {
    PoolType.FS: (
        *("auto", "ext2", "ext3", "ext4", "ufs", "iso9660", "udf"),
        *("gfs", "gfs2", "vfat", "hfs+", "xfs", "ocfs2", "vmfs"),
    ),
    PoolType.NETFS: ("auto", "nfs", "glusterfs", "cifs"),
    PoolType.DISK: ("unknown", "dos", "dvh", "gpt", "mac", "bsd", "pc98", "sun", "lvm2"),
    PoolType.LOGICAL: ("unknown", "lvm2"),
}
"""Of the source; other kinds of pools have no formats."""

DEFAULT_POOL_FORMATS: Final = {
    PoolType.FS: "auto",
    PoolType.NETFS: "auto",
    PoolType.DISK: "unknown",
    PoolType.LOGICAL: "lvm2",
}
"""What counts where none is told."""

FILE_FORMATS: Final = (
    *("none", "raw", "dir", "bochs", "cloop", "dmg", "iso", "vpc", "vdi"),
    *("fat", "vhd", "ploop", "cow", "qcow", "qcow2", "qed", "vmdk"),
)
"""Of images in files."""

PARTITION_FORMATS: Final = ("none", "linux", "fat16", "fat32", "linux-swap", "linux-lvm", "linux-raid", "extended")
"""Of partitions of a disk."""

VOLUME_FORMATS: Final[dict[PoolType, tuple[str, ...]]] = {
    PoolType.DIR: FILE_FORMATS,
    PoolType.FS: FILE_FORMATS,
    PoolType.NETFS: FILE_FORMATS,
    PoolType.DISK: PARTITION_FORMATS,
    PoolType.RBD: (),
    PoolType.GLUSTER: FILE_FORMATS,
    PoolType.VSTORAGE: FILE_FORMATS,
}
"""Of the volumes; other kinds of pools do not tell them apart."""

DEFAULT_VOLUME_FORMATS: Final = {
    PoolType.DIR: "raw",
    PoolType.FS: "raw",
    PoolType.NETFS: "raw",
    PoolType.DISK: "none",
    PoolType.RBD: "raw",
    PoolType.GLUSTER: "raw",
    PoolType.VSTORAGE: "raw",
}
"""What counts where none is told."""
