"""Gateway processes on one database, each on a port of its own, that can be killed and started again."""

import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from gateway.settings import Settings
from tests.benchmarks.processes import environment, free_port, gateway_command, wait_for

STOP_SECONDS_MAX = 20.0


@dataclass
class Gateways:
    """So many processes as there are ports; `command` gets the port as its last argument."""

    settings: Settings
    command: Sequence[str] = field(default_factory=gateway_command)
    ports: list[int] = field(default_factory=list)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, count: int) -> None:
        """More of them, at once; each answers when this returns."""
        began = len(self.processes)
        for _ in range(count):
            self.ports.append(free_port())
            self.processes.append(self._run(self.ports[-1]))
        for process, port in zip(self.processes[began:], self.ports[began:], strict=True):
            wait_for(process, port, "/readyz")

    def _run(self, port: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*self.command, str(port)], env=environment(self.settings))

    def kill(self, place: int) -> None:
        """`kill -9`: nothing is said to anybody."""
        self.processes[place].send_signal(signal.SIGKILL)
        self.processes[place].wait()

    def again(self, place: int) -> None:
        """Starts one again on its port."""
        self.processes[place] = self._run(self.ports[place])
        wait_for(self.processes[place], self.ports[place], "/readyz")

    def stop(self) -> None:
        """Ends all of them."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def gateways(settings: Settings, count: int) -> Iterator[Gateways]:
    """So many processes until the block ends."""
    running = Gateways(settings)
    try:
        running.start(count)
        yield running
    finally:
        running.stop()
