"""`register`: makes backend="TUTTI" known to ray.util.collective, when that is imported."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import ray

from tutti.errors import CollectiveError

BACKEND = "TUTTI"
# Its last import; the package has registered Ray's own backends then.
_TARGET = "ray.util.collective.collective"

_lock = threading.Lock()


def register() -> None:
    """Makes `backend="TUTTI"` work in `ray.util.collective`, in this process. Idempotent.

    Every process has to call it; Ray does that for all workers of a job:

        ray.init(runtime_env={"worker_process_setup_hook": "tutti.ray.register"})

    It costs a worker nothing that does not use `ray.util.collective`: to import that takes seconds
    where PyTorch is installed, so it is not done here. Raises RuntimeError if Ray is too old to
    know other backends than its own (before 2.56): use `tutti.collective` there.
    """
    if not (Path(ray.__file__).parent / "util/collective/backend_registry.py").is_file():
        raise RuntimeError(
            f"ray {ray.__version__} takes no other backends in ray.util.collective, 2.56 is the "
            "first that does; import tutti.collective instead, which has the same functions"
        )
    with _lock:
        if _TARGET in sys.modules:
            _register_now()
        elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
            sys.meta_path.insert(0, _Finder())


def join_declared(group_name: str) -> bool:
    """Asks Ray for a group that a driver has made with `create_collective_group`. Slow: the last
    that is tried before an error. Raises what `tutti.Client.start_join` raises.
    """
    register()
    from ray.util.collective import get_group_handle

    try:
        return bool(get_group_handle(group_name).backend() == BACKEND)
    except CollectiveError:
        raise
    except (RuntimeError, NotImplementedError):
        return False


def _register_now() -> None:
    from ray.util.collective.backend_registry import _global_registry, register_collective_backend

    from tutti.ray._backend import TuttiGroup

    if not _global_registry.is_registered(BACKEND):
        register_collective_backend(BACKEND, TuttiGroup)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds nothing itself: lets others find the target, and registers once it has been run."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _TARGET:
            return None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(name, path, target)) is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader)
                return spec
        return None


class _Loader(importlib.abc.Loader):
    """Another loader, after which we are called."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _register_now()
