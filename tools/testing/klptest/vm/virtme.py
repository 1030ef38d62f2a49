# SPDX-License-Identifier: GPL-2.0
"""The QEMU command line, which virtme-ng composes, and the kernel's."""

import argparse
import base64
import contextlib
import fcntl
import hashlib
import os
import re
import shlex
import signal
import socket
import subprocess
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Sequence

from ..paths import SCRIPTS, cache_directory
from .guest import OWN_DIRECTORIES, guest_path, overlay_directories

# Where a kernel build leaves what is booted.
BUILT_IMAGE = Path("arch/x86/boot/bzImage")

# The kernel cuts off what is longer.
COMMAND_LINE_SIZE = 2048

# Kernel options that every run has. The log is complete and reaches the console whatever the kernel's defaults are,
# an oops or a panic ends the machine, and the clocks of an emulated machine are not checked against each other.
KERNEL_OPTIONS = (
    "console=ttyS0",
    "loglevel=8",
    "ignore_loglevel",
    # After the above, which would otherwise not be in force yet for the very first messages.
    "earlyprintk=serial,ttyS0,115200",
    "printk.time=1",
    "printk.devkmsg=on",
    "oops=panic",
    "panic=-1",
    "tsc=reliable",
)


# Runs in the guest in place of init. Nothing but the root is mounted, and perhaps what the kernel or an initramfs has.
ROOT_SCRIPT = "#!/bin/sh\n" + """\
path=$PATH
PATH=$PATH:/usr/sbin:/usr/bin:/sbin:/bin
if mount -n -t 9p -o ro,trans=virtio,version=9p2000.L,access=any,cache=loose,msize=512000 vm_root {root}; then
	for d in dev proc sys run; do
		mount -n --move /$d {root}/$d 2>/dev/null
	done
	cd {root}
	mount -n --move . /
	chroot=$(command -v chroot)
	PATH=$path
	exec "$chroot" . {init} "$@"
fi
echo "vm: no cache for files" >/dev/kmsg
PATH=$path
exec {init} "$@"
"""


class Failure(Exception):
    """The machine cannot be run; the text says why."""


def kernel_arguments(append: Sequence[str], bootstrap: str) -> List[str]:
    """The kernel options in addition to those that virtme sets; the user's come last and so win."""
    script = base64.b64encode(bootstrap.encode()).decode()
    user = [word for text in append for word in shlex.split(text)]
    return [*KERNEL_OPTIONS, f"virtme.exec=`{script}`", *user]


def virtme_directory(environment: Mapping[str, str]) -> Path:
    """Where scripts/setup put virtme-ng, by what scripts/virtme-ng.txt lists."""
    name = "virtme-ng-" + hashlib.sha256((SCRIPTS / "virtme-ng.txt").read_bytes()).hexdigest()[:12]
    found = cache_directory(environment) / name / "bin"
    if not (found / "virtme-run").exists():
        raise Failure("virtme-ng is not installed: run scripts/setup")
    return found


def default_kernel() -> Path:
    """The build directory of the project's test kernel, which is built if it is not there yet."""
    with subprocess.Popen([str(SCRIPTS / "kernel")], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          start_new_session=True) as process:
        try:
            output, _ = process.communicate()
        except BaseException:
            # A build is many processes.
            os.killpg(process.pid, signal.SIGTERM)
            raise
    if process.returncode:
        raise Failure("the test kernel could not be built")
    return Path(os.fsdecode(output).splitlines()[0])


def check_kvm() -> None:
    """Having the device is not enough: a machine must be possible."""
    create_vm = 0xAE01
    try:
        with open("/dev/kvm", "rb+", buffering=0) as kvm:
            os.close(fcntl.ioctl(kvm, create_vm, 0))
    except OSError as error:
        raise Failure(f"no hardware virtualisation here: {error}") from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on a directory or file."""
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def boot_option(kernel: Path) -> List[str]:
    """Virtme's option for a build directory or an image.

    The build directory of a distribution's kernel links to the image, which has its modules beside it.
    """
    image = kernel / BUILT_IMAGE if kernel.is_dir() else kernel
    if image.is_symlink() or not kernel.is_dir():
        return ["--kimg", str(image.resolve())]
    return ["--kdir", str(kernel)]


def check_shared_files(kernel: Path) -> None:
    """Whether the kernel can mount this machine's files, as far as its configuration is beside it."""
    if kernel.is_dir():
        config = kernel / ".config"
    else:
        config = kernel.with_name(kernel.name.replace("vmlinuz", "config", 1))
    with contextlib.suppress(OSError):
        if not re.search("^CONFIG_9P_FS=", config.read_text(encoding="utf-8"), re.MULTILINE):
            raise Failure(f"{kernel} has no 9P file system (CONFIG_9P_FS), through which the virtual machine sees this "
                          "machine's files; Debian's kernels for clouds, such as this one may be, run elsewhere only")


def with_cached_root(command: Sequence[str], scratch: Path) -> List[str]:
    """Have the guest keep what it has read of this machine's files: otherwise, each start of a program takes several
    times as long.

    Virtme mounts its root file system without a cache, in a way that cannot be changed. So another device has the same
    files, and a script that runs in place of virtme's init makes that the root, and then runs it. Without, if the
    script would not be found.
    """
    result = list(command)
    if re.search(r"\s", str(scratch)) or scratch.resolve().parts[1] in OWN_DIRECTORIES:
        return result
    append = result.index("-append") + 1
    kernel_line, _, virtme_init = result[append].rpartition(" init=")
    if not kernel_line or " " in virtme_init:
        raise Failure(f"virtme-run composed a command without init at its end: {result[append]}")
    root = scratch / "root"
    root.mkdir()
    init = scratch / "init"
    init.write_text(ROOT_SCRIPT.format(root=shlex.quote(str(root)), init=shlex.quote(virtme_init)), encoding="utf-8")
    init.chmod(0o755)
    result[append] = f"{kernel_line} init={init}"
    return [*result, "-fsdev", "local,id=vm_root,path=/,security_model=none,readonly=on,multidevs=remap",
            "-device", "virtio-9p-pci,fsdev=vm_root,mount_tag=vm_root"]


def virtme_command(args: argparse.Namespace, kernel: Path, options: Sequence[str], scratch: Path) -> List[str]:
    """Let virtme compose the QEMU command line: root file system, init, kernel modules."""
    tools = virtme_directory(os.environ)
    check_shared_files(kernel)
    command = [str(tools / "virtme-run"), "--dry-run", "--show-command", "--force-9p", "--disable-monitor",
               "--mods", "auto", "--memory", args.memory, "--cpus", str(args.cpus)]
    command += boot_option(kernel)
    command += [] if args.kvm else ["--disable-kvm"]
    command += [f"--overlay-rwdir={name}" for name in overlay_directories(Path("/"))]
    command += [f"--rwdir={path}" for path in args.rw]
    command += [f"--kopt={option}" for option in options]
    environment = {**os.environ, "PATH": f"{tools}:{guest_path(os.environ.get('PATH', ''))}"}
    environment.pop("TERM", None)

    def run(extra: Sequence[str]) -> List[str]:
        # Where its standard error cannot be opened by name, virtme leaves the console to the serial port alone, as is
        # wanted here: so it gets a socket. What it says fits into the socket's buffer, or is not worth more.
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.setblocking(False)
            # Virtme links the modules into the build directory when it sees them for the first time.
            with locked(kernel):
                result = subprocess.run([*command, *extra], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=theirs.fileno(), env=environment, check=False)
            theirs.close()
            said = ours.recv(1 << 16).decode(errors="replace")
        if result.returncode:
            raise Failure(f"virtme-run failed with status {result.returncode}:\n"
                          f"{os.fsdecode(result.stdout)}{said}".rstrip())
        return shlex.split(os.fsdecode(result.stdout).splitlines()[-1])

    composed = run([])
    if "-initrd" in composed:
        # The kernel has modules that it needs for the root file system. The file must outlive virtme.
        composed = run([f"--save-initramfs={scratch / 'initramfs'}"])
    composed = with_cached_root(composed, scratch)
    if len(os.fsencode(composed[composed.index("-append") + 1])) >= COMMAND_LINE_SIZE:
        raise Failure("the kernel command line gets too long: fewer --rw and --append, please")
    return composed
