"""What scripts/bench and the others beside it share: processes that are always ended, CPU time from
the kernel, the quietness of the machine, tables, and the folder that keeps a run."""

import argparse
import atexit
import datetime
import glob
import json
import os
import platform
import re
import resource
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SCRIPT = os.path.basename(sys.argv[0])

if sys.version_info < (3, 10):
    sys.exit(f"scripts/{SCRIPT}: needs Python 3.10 or later, this is {platform.python_version()}")

# Foreign use of a measured CPU above this share spoils a run.
FOREIGN_LIMIT = 0.15
# How often a spoilt run is repeated before its last figures are taken all the same.
MAX_REPEATS = 3

START_TIMEOUT_S = 20
STOP_TIMEOUT_S = 5


def fail(text):
    sys.exit(f"scripts/{SCRIPT}: {text}")


# ---- processes ---------------------------------------------------------------------------------

_running = []


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _ignore_signals():
    """A second Ctrl-C would leave the processes that are not stopped yet to themselves."""
    # Not SIG_IGN: of a signal that is on its way already, Python then raises an error.
    for number in _SIGNALS:
        signal.signal(number, lambda _number, _frame: None)


def _stop_all():
    _ignore_signals()
    while _running:
        _running[-1].stop()


def _end(number, _frame):
    _ignore_signals()
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def end_cleanly_on_signals():
    """Makes every way out of the script, but SIGKILL, end the processes it started."""
    atexit.register(_stop_all)
    for number in _SIGNALS:
        signal.signal(number, _end)


class Process:
    """A process of ours, with its output in a file."""

    def __init__(self, name, command, folder):
        self.name, self.command = name, [str(part) for part in command]
        self.log = os.path.join(folder, re.sub(r"\W+", "-", name) + ".log")
        with open(self.log, "wb") as log:
            # A session of its own: Ctrl-C is for the script, which then ends what it started.
            self.child = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log,
                                          stderr=log, start_new_session=True)
        self.pid = self.child.pid
        _running.append(self)

    def output(self):
        with open(self.log, errors="replace") as log:
            return log.read().strip()

    def wait_for_listener(self, address):
        """Returns once somebody listens there, or ends the script with what the process said."""
        give_up = time.monotonic() + START_TIMEOUT_S
        while True:
            if self.child.poll() is not None:
                fail(f"{self.name} ended with {self.child.returncode} instead of listening on "
                     f"{address}:\n{shlex.join(self.command)}\n{self.output()}")
            try:
                connect(address).close()
                return
            except OSError as error:
                if time.monotonic() > give_up:
                    fail(f"{self.name} does not listen on {address} ({error}):\n{self.output()}")
            time.sleep(0.02)

    def kill(self):
        """Ends it without asking."""
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        self.stop()

    def stop(self):
        if self in _running:
            _running.remove(self)
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


def run(command):
    """Runs a command to its end, also if the script is ended meanwhile; its exit status, output,
    error output and CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             start_new_session=True)
    try:
        out, err = child.communicate()
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return child.returncode, out, err, cpu_s


def connect(address):
    """A connected socket; `address` is HOST:PORT or unix:PATH."""
    if address.startswith("unix:"):
        plug = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        where = address[len("unix:"):]
    else:
        host, port = address.rsplit(":", 1)
        family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
        plug = socket.socket(family, socket.SOCK_STREAM)
        where = (host.strip("[]"), int(port))
    try:
        plug.settimeout(10)
        plug.connect(where)
    except OSError:
        plug.close()
        raise
    return plug


def free_port():
    """A TCP port of the loopback that nobody uses now."""
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        return plug.getsockname()[1]


def temporary_folder():
    """A folder that is gone when the script ends. Short, for the sockets in it."""
    folder = tempfile.mkdtemp(prefix="ringspoa-")
    # Functions run in the opposite order, so the processes that use it have ended by then.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def build(peers=False):
    """Builds the server and the load generator in release, and the peers; the folder of the programs.

    By the calls of cargo that scripts/demo makes, too: it gives a dependency the features that all want who are
    built at once, so that another selection builds nearly everything again.
    """
    command = ["cargo", "build", "--release", "--quiet"]
    try:
        subprocess.run([*command, "-p", "ringspoa", "-p", "ringspoa-loadgen"], cwd=ROOT, check=True)
        if peers:
            subprocess.run([*command, "-p", "ringspoa-bench-peers"], cwd=ROOT, check=True)
        metadata = subprocess.run(["cargo", "metadata", "--format-version", "1", "--no-deps"],
                                  cwd=ROOT, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        fail("cargo is missing; see https://rustup.rs")
    except subprocess.CalledProcessError as error:
        fail(f"{shlex.join(error.cmd)} failed")
    return os.path.join(json.loads(metadata.stdout)["target_directory"], "release")


# ---- CPU time ----------------------------------------------------------------------------------

def cpu_ns(pid):
    """What the scheduler ran of a process's threads until now."""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        try:
            with open(path) as file:
                total += int(file.read().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            pass  # a thread that ended between the two
    return total


def busy_ns():
    """Nanoseconds each CPU was not idle until now, time stolen by a hypervisor included."""
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    busy = {}
    with open("/proc/stat") as file:
        for line in file:
            name, *ticks = line.split()
            if re.fullmatch(r"cpu\d+", name):
                user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks[:8])
                busy[int(name[3:])] = (user + nice + system + irq + softirq + steal) * tick_ns
    return busy


def positive(text):
    """The type of an option that is a number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def count(text):
    """The type of an option that is a whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


class Quietness:
    """How much of the measured CPUs others used, and how many runs had to be repeated for it."""

    def __init__(self, max_repeats=MAX_REPEATS):
        self.max_repeats = max_repeats
        self.runs = self.repeats = self.spoilt = 0

    def measure(self, cpus, attempt):
        """Calls `attempt`, again while the machine is not quiet. It returns its result and the
        nanoseconds our own processes ran on each of `cpus`, or on all of them together where they
        are on any; the result gets `foreign_cpu`."""
        self.runs += 1
        for repeat in range(self.max_repeats + 1):
            busy, began = busy_ns(), time.monotonic_ns()
            result, own = attempt()
            took, after = time.monotonic_ns() - began, busy_ns()
            used = {cpu: after[cpu] - busy[cpu] for cpu in cpus}
            if not isinstance(own, dict):
                used, own = {"all": sum(used.values())}, {"all": own}
            foreign = {cpu: max(0.0, (used[cpu] - own[cpu]) / took) for cpu in used}
            result["foreign_cpu"] = {str(cpu): round(share, 3) for cpu, share in foreign.items()}
            result["repeats"] = repeat
            if max(foreign.values(), default=0) <= FOREIGN_LIMIT:
                return result
            if repeat < self.max_repeats:
                self.repeats += 1
        self.spoilt += 1
        return result

    def text(self):
        return (f"{self.runs} runs; {self.repeats} times one was repeated because others used more than "
                f"{FOREIGN_LIMIT:.0%} of a measured CPU; {self.spoilt} were disturbed to the last (at "
                f"most {self.max_repeats} repeats each) and are in the figures.")


def usable_cpus():
    return sorted(os.sched_getaffinity(0))


def siblings(cpu):
    """The CPUs that share a core with this one, itself among them."""
    try:
        with open(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") as file:
            text = file.read().strip()
    except OSError:
        return {cpu}
    found = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


# ---- the report --------------------------------------------------------------------------------

def first_line(*command):
    """The first line a command prints, or that it is not there."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        lines = (result.stdout or result.stderr).strip().splitlines()
        return lines[0] if result.returncode == 0 and lines else "unknown"
    except FileNotFoundError:
        return "not installed"


def cpu_model():
    with open("/proc/cpuinfo") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model", "cpu model"):
                return value.strip()
    return platform.machine()


def default_folder():
    """benches/runs/DATE-MACHINE of today and this machine."""
    model = re.sub(r"\((R|TM|r|tm)\)|\bCPU\b|\bProcessor\b|@.*", " ", cpu_model())
    slug = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")
    date = datetime.date.today().isoformat()
    return os.path.join(ROOT, "benches", "runs", f"{date}-{slug}-{os.cpu_count()}cpu")


class Report:
    """README.md of a run's folder, rewritten with each section so that a run that was cut short
    leaves what it had, and the raw figures beside it."""

    def __init__(self, folder, file_name, title, notes):
        self.folder, self.file_name = folder, file_name
        os.makedirs(os.path.join(folder, "raw"), exist_ok=True)
        dirty = first_line("git", "status", "--porcelain", "--untracked-files=no") != "unknown"
        commit = first_line("git", "rev-parse", "--short=12", "HEAD")
        with open("/proc/meminfo") as file:
            memory_gib = int(file.readline().split()[1]) / 1024 / 1024
        facts = [
            ("command", f"`scripts/{shlex.join([SCRIPT, *sys.argv[1:]])}`"),
            ("commit", commit + (", with uncommitted changes" if dirty else "")),
            ("started", datetime.datetime.now().astimezone().isoformat(timespec="seconds")),
            ("CPU", f"{cpu_model()}, {len(usable_cpus())} usable of {os.cpu_count()}"),
            ("memory", f"{memory_gib:.1f} GiB"),
            ("kernel", f"{platform.system()} {platform.release()}"),
            ("rustc", first_line("rustc", "--version")),
            ("python", platform.python_version()),
            *notes,
        ]
        self.parts = [f"# {title}\n", table(["", ""], ["---", "---"], facts)]
        self.show(self.parts[1])
        self.write()

    def show(self, text):
        print(text, flush=True)

    def section(self, title, text):
        self.parts.append(f"## {title}\n\n{text}")
        self.show(f"\n## {title}\n\n{text}")
        self.write()

    def raw(self, name, runs):
        """Keeps the figures of every run, one a line."""
        with open(os.path.join(self.folder, "raw", f"{name}.json"), "w") as file:
            file.write("[\n" + ",\n".join(json.dumps(run) for run in runs) + "\n]\n")

    def write(self):
        with open(os.path.join(self.folder, self.file_name), "w") as file:
            file.write("\n".join(part.rstrip("\n") + "\n" for part in self.parts))


def table(head, rule, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join(rule) + "|"]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def median_of(runs, key):
    """The median of a figure over the runs that have it, or None."""
    values = [run[key] for run in runs if run.get(key) is not None]
    return statistics.median(values) if values else None


def ratios(mine, base, key):
    """Round by round, so that what slowed a whole round cancels; empty where a side has none."""
    pairs = ((a.get(key), b.get(key)) for a, b in zip(mine, base))
    return [a / b for a, b in pairs if a is not None and b]


def spread(values):
    """Median and range of ratios."""
    if not values:
        return "n/a"
    middle = f"{statistics.median(values):.2f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):.2f}-{max(values):.2f})"


def number(value, form=",.0f"):
    return "n/a" if value is None else format(value, form)
