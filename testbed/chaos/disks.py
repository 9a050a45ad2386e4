"""A small disk for a gate's journal, to be filled, frozen, broken and slowed: ext4 in a file, by loop mount. Needs root.

How each fault is made (all of them were seen to work as root in a virtual machine with a kernel of its own; in a container the
loop device is usually not to be had, and then `reason_against` says so):

* full: one more file takes what is left;
* read-only from the start: mounted so, and writable later;
* read-only while in use: the kernel is told of an error in the file system (`trigger_fs_error`), and mounts it read-only by
  itself, as it does for a worn-out card. The way back is fsck;
* power cut: what has reached the device at that moment is copied, and is all there is afterwards;
* hanging: `fsfreeze`; every write waits;
* slow: the block controller of control groups limits bytes and operations a second of one device for one process.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

BLKIO = Path("/sys/fs/cgroup/blkio")
"""Control groups v1."""
UNIFIED = Path("/sys/fs/cgroup")
"""Control groups v2, where it is the only one."""
TOOLS = ("mkfs.ext4", "fsck.ext4", "mount", "umount", "findmnt", "fsfreeze")
PATHS = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
FSCK_DONE = 1
"""fsck's exit status after it has repaired something."""
FILLER = "filler"
BLOCK = 4096
"""Bytes, as on any disk of a gate's size. With smaller blocks SQLite's shared memory file has holes, and a process that writes
there on a full disk is ended by SIGBUS."""


class DiskError(Exception):
    """A tool of the system failed; the text is its own."""


def reason_against() -> str | None:
    """Why this machine cannot have such a disk, Korean and English; None: it can."""
    if os.geteuid() != 0:
        return "root가 아님 / not root"
    missing = [tool for tool in TOOLS if shutil.which(tool, path=PATHS) is None]
    if missing:
        return f"없는 도구 / missing tools: {', '.join(missing)}"
    if not Path("/dev/loop-control").exists():
        return "루프 장치가 없음 / no loop devices"
    return None


def _run(*command: str, passing: tuple[int, ...] = (0,)) -> str:
    program = shutil.which(command[0], path=PATHS) or command[0]
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    if done.returncode not in passing:
        raise DiskError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()


class Disk:
    """An ext4 of `mib` MiB mounted at `point`. `attach` first, `detach` last."""

    def __init__(self, folder: Path, mib: int) -> None:
        self.image, self.point = folder / "disk.img", folder / "disk"
        self._mib, self._frozen = mib, False
        self._remembered = folder / "disk.cut"

    def attach(self) -> None:
        """Make, format and mount. Raises DiskError."""
        self.point.mkdir(parents=True)
        with self.image.open("wb") as file:
            file.truncate(self._mib << 20)
        _run("mkfs.ext4", "-q", "-m", "0", "-b", str(BLOCK), str(self.image))
        self._mount()

    def detach(self) -> None:
        """Also a disk that could not be attached."""
        if self._frozen:
            self.thaw()
        with suppress(DiskError):
            # Lazily: whoever still has a file open there shall not keep the mount for ever.
            _run("umount", "-l", str(self.point))

    @property
    def device(self) -> str:
        """Such as `loop3`."""
        return Path(_run("findmnt", "-n", "-o", "SOURCE", str(self.point))).name

    def _mount(self) -> None:
        _run("mount", "-o", "loop,errors=remount-ro", str(self.image), str(self.point))

    def fill(self) -> None:
        """Until not a byte more fits."""
        with (self.point / FILLER).open("ab", buffering=0) as file:
            for size in (1 << 16, 1 << 10, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def free(self) -> None:
        (self.point / FILLER).unlink()

    def read_only(self, wanted: bool) -> None:
        """By remounting; nobody may have a file open for writing when it becomes so."""
        _run("mount", "-o", f"remount,{'ro' if wanted else 'rw'}", str(self.point))

    def break_down(self) -> None:
        """An error of the file system: read-only from this moment, for files that are open too."""
        Path(f"/sys/fs/ext4/{self.device}/trigger_fs_error").write_text("1")

    def repair(self) -> None:
        """After `break_down`; nobody may have a file open."""
        _run("umount", str(self.point))
        self._check()

    def _check(self) -> None:
        _run("fsck.ext4", "-f", "-y", str(self.image), passing=(0, FSCK_DONE))
        self._mount()

    def remember(self) -> None:
        """What has reached the device by now: all that a power cut at this moment would leave."""
        shutil.copyfile(self.image, self._remembered)

    def cut_power(self) -> None:
        """Back to what was remembered; nobody may have a file open."""
        _run("umount", str(self.point))
        self._remembered.replace(self.image)
        self._check()

    def freeze(self) -> None:
        self._frozen = True
        _run("fsfreeze", "-f", str(self.point))

    def thaw(self) -> None:
        _run("fsfreeze", "-u", str(self.point))
        self._frozen = False


class Throttle:
    """One control group that may write to `disk` only so fast. `limit` makes it, `release` ends it."""

    def __init__(self, name: str, disk: Disk, *, bytes_per_s: int, writes_per_s: int) -> None:
        self._disk, self._bytes, self._writes = disk, bytes_per_s, writes_per_s
        self._root = BLKIO if BLKIO.is_dir() else UNIFIED
        self._group = self._root / name

    @staticmethod
    def reason_against() -> str | None:
        controllers = UNIFIED / "cgroup.controllers"
        if BLKIO.is_dir() or (controllers.is_file() and "io" in controllers.read_text().split()):
            return None
        return "블록 입출력 제어 그룹이 없음 / no control group for block devices"

    def limit(self, pid: int) -> None:
        """Slow down process `pid`, and whatever it starts. Raises OSError."""
        number = os.stat(f"/dev/{self._disk.device}").st_rdev  # noqa: PTH116  st_rdev is all that is wanted
        device = f"{os.major(number)}:{os.minor(number)}"
        if self._root == UNIFIED:
            (UNIFIED / "cgroup.subtree_control").write_text("+io")
        self._group.mkdir(exist_ok=True)
        if self._root == UNIFIED:
            (self._group / "io.max").write_text(f"{device} wbps={self._bytes} wiops={self._writes}")
        else:
            (self._group / "blkio.throttle.write_bps_device").write_text(f"{device} {self._bytes}")
            (self._group / "blkio.throttle.write_iops_device").write_text(f"{device} {self._writes}")
        (self._group / "cgroup.procs").write_text(str(pid))

    def release(self) -> None:
        """The processes go on at full speed."""
        if not self._group.is_dir():
            return
        for pid in (self._group / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                (self._root / "cgroup.procs").write_text(pid)
        self._group.rmdir()
