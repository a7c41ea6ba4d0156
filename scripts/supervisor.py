"""As much of systemd as scripts/test-package needs to start a unit on a machine where systemd does not run:
the user and group, the runtime directory, limits, sockets handed over, and the notifications that come back.
Namespaces and system call filters are not made."""

import ctypes
import grp
import json
import os
import pwd
import re
import resource
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
# Descriptors of socket activation begin here, see sd_listen_fds(3).
FIRST_SOCKET = 3


class Unit:
    """A unit file: `[Section] Key=` as a list, as a key may be there more than once; an empty value forgets
    those before it."""

    def __init__(self, path):
        self.sections = {}
        section = None
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
        for line in lines:
            line = line.strip()
            if not line or line[0] in "#;":
                continue
            if line.startswith("["):
                section = self.sections.setdefault(line.strip("[]"), {})
                continue
            key, value = (part.strip() for part in line.split("=", 1))
            if value:
                section.setdefault(key, []).append(value)
            else:
                section[key] = []

    def all(self, section, key):
        return self.sections.get(section, {}).get(key, [])

    def one(self, section, key, default=None):
        return (self.all(section, key) or [default])[-1]


def size(text):
    """Bytes, or a plain count, as systemd writes limits."""
    number, unit = re.fullmatch(r"(\d+)([KMG]?)", text).groups()
    return int(number) << {"": 0, "K": 10, "M": 20, "G": 30}[unit]


def wait_for(what, timeout_s, found):
    """What `found` has; fails if it has nothing in time."""
    end = time.monotonic() + timeout_s
    while True:
        value = found()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"no {what} within {timeout_s} s")
        time.sleep(0.02)


class Notifications:
    """The socket of sd_notify(3), and what came in: who sent it, and its assignments."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "notify")
        self.came = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(self.path)
        os.chmod(self.path, 0o666)
        threading.Thread(target=self._receive, daemon=True).start()

    def _receive(self):
        while True:
            data, ancillary, _flags, _address = self._socket.recvmsg(4096, socket.CMSG_SPACE(12))
            pid = 0
            for level, kind, content in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                    pid = struct.unpack("3i", content)[0]
            lines = data.decode(errors="replace").splitlines()
            self.came.append((pid, dict(line.split("=", 1) for line in lines if "=" in line)))

    def mark(self):
        """What comes from now on is what `wait` of this mark looks at."""
        return len(self.came)

    def wait(self, mark, key, value=None, pid=None, timeout_s=10):
        """The first message with this key since `mark`, with its place; from this process, if one is given."""

        def found():
            for index in range(mark, len(self.came)):
                sender, message = self.came[index]
                if key in message and value in (None, message[key]) and pid in (None, sender):
                    return index, sender, message
            return None

        wanted = key if value is None else f"{key}={value}"
        try:
            return wait_for(wanted + (f" of process {pid}" if pid else ""), timeout_s, found)
        except AssertionError as error:
            raise AssertionError(f"{error}; what came: {self.came[mark:]}") from None


class Service:
    """The one service of these tests, started as its unit says."""

    def __init__(self, unit, watchdog_s):
        libc = ctypes.CDLL(None, use_errno=True)
        # What a hand-over starts becomes our child when its parent ends, as it would be systemd's.
        if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
        self.unit = unit
        self.watchdog_s = watchdog_s
        self.folder = tempfile.mkdtemp(prefix="ringspoa-supervisor-")
        os.chmod(self.folder, 0o711)
        self.notifications = Notifications(self.folder)
        self.log = os.path.join(self.folder, "log")
        self.pids = []

    @property
    def main_pid(self):
        return self.pids[-1]

    def settings(self):
        """What the process is before it is the program."""
        user = pwd.getpwnam(self.unit.one("Service", "User"))
        group = self.unit.one("Service", "Group")
        limits = {}
        for key, number in (
            ("LimitNOFILE", resource.RLIMIT_NOFILE),
            ("LimitMEMLOCK", resource.RLIMIT_MEMLOCK),
        ):
            if self.unit.one("Service", key):
                limits[number] = size(self.unit.one("Service", key))
        return {
            "uid": user.pw_uid,
            "gid": grp.getgrnam(group).gr_gid if group else user.pw_gid,
            "umask": int(self.unit.one("Service", "UMask", "0022"), 8),
            "limits": list(limits.items()),
            "environment": {
                "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
                "NOTIFY_SOCKET": self.notifications.path,
            },
            "own_pid": [],
        }

    def spawn(self, command, settings, sockets=(), log=None):
        """Starts `command` by way of `become` below, in a process of its own."""
        settings = {
            **settings,
            "command": shlex.split(command),
            "sockets": [each.fileno() for each in sockets],
        }
        with open(log or self.log, "ab") as output:
            return subprocess.Popen(
                [sys.executable, os.path.abspath(__file__), json.dumps(settings)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=settings["sockets"],
            )

    def start(self, sockets=(), names=()):
        """Starts it, and waits for READY=1."""
        settings = self.settings()
        runtime = self.unit.one("Service", "RuntimeDirectory")
        if runtime:
            path = os.path.join("/run", runtime)
            os.makedirs(path, exist_ok=True)
            os.chown(path, settings["uid"], settings["gid"])
            os.chmod(path, int(self.unit.one("Service", "RuntimeDirectoryMode", "0755"), 8))
        settings["environment"]["WATCHDOG_USEC"] = str(int(self.watchdog_s * 1_000_000))
        settings["own_pid"] = ["WATCHDOG_PID"]
        if sockets:
            settings["environment"]["LISTEN_FDS"] = str(len(sockets))
            settings["environment"]["LISTEN_FDNAMES"] = ":".join(names)
            settings["own_pid"].append("LISTEN_PID")
        mark = self.notifications.mark()
        process = self.spawn(self.unit.one("Service", "ExecStart"), settings, sockets)
        self.pids.append(process.pid)
        self.notifications.wait(mark, "READY", "1", process.pid)
        return mark

    def control(self, key):
        """Runs the commands of ExecReload= and the like in turn, until one fails; its exit code and output."""
        for command in self.unit.all("Service", key):
            log = os.path.join(self.folder, "control")
            with open(log, "wb"):
                pass
            process = self.spawn(command.replace("$MAINPID", str(self.main_pid)), self.settings(), log=log)
            code = process.wait(timeout=10)
            if code:
                with open(log, encoding="utf-8") as file:
                    return code, file.read()
        return 0, ""

    def hand_over(self):
        """SIGUSR2: the pid of the process that took over, which is the main one from then on."""
        mark = self.notifications.mark()
        os.kill(self.main_pid, signal.SIGUSR2)
        _index, _sender, message = self.notifications.wait(mark, "MAINPID")
        new = int(message["MAINPID"])
        self.notifications.wait(mark, "READY", "1", new)
        self.pids.append(new)
        return new

    def ended(self, pid, timeout_s):
        """The exit code of one of its processes, negative for a signal."""

        def found():
            # A process that was handed over to becomes ours only when its parent has ended.
            try:
                ended, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                return None
            return (os.waitstatus_to_exitcode(status),) if ended else None

        (code,) = wait_for(f"end of process {pid}", timeout_s, found)
        self.pids.remove(pid)
        return code

    def stop(self):
        """SIGTERM; the exit code."""
        pid = self.main_pid
        os.kill(pid, signal.SIGTERM)
        return self.ended(pid, float(self.unit.one("Service", "TimeoutStopSec", "90")))

    def output(self):
        try:
            with open(self.log, encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def close(self):
        """Ends what still runs of its processes, and removes what was made for them."""
        for pid in list(self.pids):
            try:
                os.kill(pid, signal.SIGKILL)
                self.ended(pid, 5)
            except (AssertionError, ProcessLookupError):
                pass
        shutil.rmtree(self.folder, ignore_errors=True)


def listen(unit, stream):
    """A listening socket as a .socket unit says, for one of its ListenStream=."""
    backlog = int(unit.one("Socket", "Backlog", "4096"))
    if not stream.startswith("/"):
        host, port = stream.rsplit(":", 1)
        return socket.create_server((host, int(port)), backlog=backlog)
    os.makedirs(
        os.path.dirname(stream), mode=int(unit.one("Socket", "DirectoryMode", "0755"), 8), exist_ok=True
    )
    if os.path.exists(stream):
        os.unlink(stream)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(stream)
    os.chown(
        stream,
        pwd.getpwnam(unit.one("Socket", "SocketUser", "root")).pw_uid,
        grp.getgrnam(unit.one("Socket", "SocketGroup", "root")).gr_gid,
    )
    os.chmod(stream, int(unit.one("Socket", "SocketMode", "0666"), 8))
    listener.listen(backlog)
    return listener


def become(settings):
    """In the new process: takes on what `settings` says, then is the program."""
    for number, limit in settings["limits"]:
        # A container may have less than the unit asks for, and systemd takes that, too.
        _soft, hard = resource.getrlimit(number)
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(number, (limit, limit))
    # To where none of them is in the way of another.
    moved = [os.dup(descriptor) for descriptor in settings["sockets"]]
    moved = [os.dup2(descriptor, 100 + index) for index, descriptor in enumerate(moved)]
    for index, descriptor in enumerate(moved):
        os.dup2(descriptor, FIRST_SOCKET + index, inheritable=True)
    os.closerange(FIRST_SOCKET + len(moved), 200)
    ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.umask(settings["umask"])
    os.chdir("/")
    os.setgroups([])
    os.setgid(settings["gid"])
    os.setuid(settings["uid"])
    environment = {**settings["environment"], **{name: str(os.getpid()) for name in settings["own_pid"]}}
    os.execve(settings["command"][0], settings["command"], environment)


if __name__ == "__main__":
    become(json.loads(sys.argv[1]))
