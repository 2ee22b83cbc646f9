"""Ray in one process, for tests of who does what; no node, no process."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


class DeadActorError(Exception):
    pass


class ScriptedRay(ModuleType):
    """Ray in one process: calls happen when they are asked for, one `wait` each.

    Args:
        hosts: Names of hosts.
    """

    def __init__(self, *hosts: str) -> None:
        super().__init__("ray")
        self.hosts = [*hosts]
        self.dead: set[str] = set()
        self.exceptions = SimpleNamespace(
            RayActorError=DeadActorError, RayError=OSError
        )
        self.cloudpickle = SimpleNamespace(dumps=lambda make: make)
        self.is_over = False

    def init(self, address: str, **_: object) -> None:
        pass

    def shutdown(self) -> None:
        self.is_over = True

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {
                "NodeID": f"id-{host}",
                "NodeManagerHostname": host,
                "Alive": host not in self.dead,
                "Resources": {"CPU": 2.0},
            }
            for host in self.hosts
        ]

    def remote(self, resident: type) -> Any:
        def options(**given: Any) -> Any:
            def start(make: Any, host: str) -> Any:
                one = object.__new__(resident)
                one._make, one._host, one._worker, one._free_s = make, host, None, 0.0
                return ScriptedActor(self, one)

            return SimpleNamespace(remote=start)

        return SimpleNamespace(options=options)

    def wait(self, asked: list[Any], **_: object) -> tuple[list[Any], list[Any]]:
        return asked, []

    def get(self, asked: Any) -> Any:
        return asked()

    def kill(self, actor: Any) -> None:
        pass


class ScriptedActor:
    def __init__(self, ray: ScriptedRay, resident: Any) -> None:
        self.ray, self.resident = ray, resident

    def __getattr__(self, name: str) -> Any:
        def ask(*given: Any) -> Any:
            def answer() -> Any:
                if self.resident._host in self.ray.dead:
                    raise DeadActorError("the node died")
                return getattr(self.resident, name)(*given)

            return answer

        return SimpleNamespace(remote=ask)


def install(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> ScriptedRay:
    """Let `mpcprof.cluster` find it; workers are made without pickling."""
    scripted = ScriptedRay(*hosts)
    strategies = ModuleType("ray.util.scheduling_strategies")
    strategies.NodeAffinitySchedulingStrategy = lambda *_, **__: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", scripted)
    monkeypatch.setitem(sys.modules, strategies.__name__, strategies)
    monkeypatch.setattr("mpcprof.cluster.pickle.loads", lambda make: make)
    return scripted
