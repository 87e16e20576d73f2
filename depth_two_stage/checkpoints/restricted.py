# SPDX-License-Identifier: Apache-2.0
"""A pickle reader that runs nothing: names become inert stand-ins, arrays become NumPy's.

A pickle is a program: it names functions and calls them. Here no name of a file is ever imported.
Each becomes an object of this module or the file is refused: `Call`, the few functions that data
need (each checks its arguments), or `Stub`, a class that only remembers what it was given.
"""

from __future__ import annotations

import io
import pickle
import re
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

__all__ = [
    "BROKEN",
    "CheckpointFileError",
    "Fixed",
    "Stub",
    "Unpickler",
    "array",
    "call",
    "loads",
    "refuse",
]

#: what reading a damaged or hostile pickle raises
BROKEN = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
    AssertionError,
    struct.error,
)
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
NUMBERS = re.compile(r"[<>|=]?(?:[fiu][1248]|b1)")  # number types, nothing with Python objects


class CheckpointFileError(ValueError):
    """A file that cannot be imported: foreign, damaged, of another architecture, or hostile."""


class Refused(pickle.UnpicklingError):
    """A pickle that names what no checkpoint needs."""


def refuse(what: str) -> Refused:
    """The error of a pickle that asks for ``what``."""
    return Refused(
        f"expected tensors and plain data, got {what}, which is refused: it can run code"
    )


class Stub:
    """Stands for an object of a class that is not imported: its arguments and its state."""

    __slots__ = ("args", "state")
    origin = ""  # module and name of the class it stands for

    def __new__(cls, *args: Any, **_: Any) -> Stub:
        """Remember the arguments."""
        stub = object.__new__(cls)
        stub.args, stub.state = args, {}
        return stub

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute the object would have had."""
        return self.state.get(name, default) if isinstance(self.state, dict) else default


class Fixed:
    """What a pickle cannot change once it is made."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise refuse(f"a new state of {type(self).__name__}")


class Named(dict):
    """Stands for an OrderedDict, whose further attributes (`_metadata`) are left out."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """Nothing: an attribute could take the place of a method."""


class Call(Fixed):
    """A function of the file that is allowed: calls ours. Nothing of it can be changed."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setattr__(self, name: str, value: Any) -> None:
        raise refuse(f"a new {name!r} of a function")


def call(function: Callable) -> Call:
    """``function`` as a pickle may see it."""
    return Call(function)


class Dtype:
    """A NumPy number type while it is read: name, then byte order."""

    __slots__ = ("name",)

    def __init__(self, name: Any, *_: Any) -> None:
        if name in ("O", "O8", "O4", "|O"):
            name = "O"
        elif not isinstance(name, str) or not NUMBERS.fullmatch(name):
            raise refuse(f"arrays of {name!r}")
        self.name = name

    def __setstate__(self, state: tuple) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise ValueError(f"byte order {order!r}")
        if self.name != "O":
            self.name = order + self.name.lstrip("<>|=")

    def number(self) -> np.dtype:
        """The number type."""
        if self.name == "O":
            raise refuse("an array of Python objects")
        return np.dtype(self.name)


class Array:
    """A NumPy array while it is read. An array of objects is the list of them."""

    __slots__ = ("value",)

    def __setstate__(self, state: tuple) -> None:
        shape, dtype, fortran, data = state[-4:]
        if dtype.name == "O":
            if not isinstance(data, list):
                raise refuse("an array of Python objects")
            self.value = data
            return
        self.value = numbers(data, dtype.number(), shape, "F" if fortran else "C")


def numbers(data: Any, dtype: np.dtype, shape: tuple, order: str = "C") -> np.ndarray:
    """Bytes (or Python 2's str) → array."""
    if isinstance(data, str):
        data = data.encode("latin1")
    if not isinstance(data, (bytes, bytearray)):
        raise refuse(f"array data in {type(data).__name__}")
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def _rebuilt(kind: Any, *_: Any) -> Array:
    if kind is not ARRAY:
        raise refuse("an array of another class than numpy.ndarray")
    return Array()


def _scalar(dtype: Any, data: Any) -> Any:
    return numbers(data, dtype.number(), ()).item()


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise refuse(f"the encoding {encoding!r}")
    return text.encode("latin1")


def _from_buffer(data: Any, dtype: Any, shape: tuple, order: str) -> np.ndarray:
    return numbers(bytes(data), dtype.number(), shape, order)


def _bytes(data: Any = b"") -> bytes:
    if not isinstance(data, bytes):  # a number would be that many bytes of memory
        raise refuse(f"a bytearray of {type(data).__name__}")
    return data


#: stands for the class numpy.ndarray
ARRAY = Call(lambda *_: Array())
_CORE = {
    "multiarray._reconstruct": Call(_rebuilt),
    "multiarray.scalar": Call(_scalar),
    "numeric._frombuffer": Call(_from_buffer),
}
#: functions and classes that arrays and plain data need, by module and name
PLAIN: dict[str, Any] = {
    "numpy.ndarray": ARRAY,
    "numpy.dtype": Call(Dtype),
    **{f"numpy.{core}.{name}": made for core in ("core", "_core") for name, made in _CORE.items()},
    "_codecs.encode": Call(_encoded),
    "collections.OrderedDict": Named,
    "collections.defaultdict": Call(lambda *_: {}),
    **{
        f"{builtins}.{kind.__name__}": Call(kind)
        for builtins in ("builtins", "__builtin__")
        for kind in (dict, set, frozenset, list, tuple)
    },
    "builtins.bytearray": Call(_bytes),
}


# The reader written in Python: to C's, one number in a file says how many GB its memo takes.
class Unpickler(pickle._Unpickler):
    """Reads one pickle. ``known`` adds names to `PLAIN`; ``stubs`` matches further classes.

    ``stubs`` is a pattern of whole names (``module.Class``): these become `Stub` classes.
    """

    def __init__(
        self,
        file: BinaryIO,
        known: dict[str, Any] | None = None,
        stubs: re.Pattern | None = None,
        storage: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(file, fix_imports=False, encoding="latin1")
        self.known, self.stubs, self.storage = {**PLAIN, **(known or {})}, stubs, storage
        self.made: dict[str, type[Stub]] = {}
        for builtins in ("builtins", "__builtin__"):
            self.known[f"{builtins}.getattr"] = Call(self._inner)

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name; nothing is imported."""
        whole = f"{module}.{name}"
        found = self.known.get(whole)
        return self._stub(whole) if found is None else found

    def get_extension(self, code: int) -> None:
        """A name by its number in this process's registry."""
        raise refuse("a registered name")

    def persistent_load(self, pid: Any) -> Any:
        """What stands for a storage (torch)."""
        if self.storage is None:
            raise refuse("a reference to something outside the file")
        return self.storage(pid)

    def _stub(self, whole: str) -> type[Stub]:
        if self.stubs is None or not self.stubs.fullmatch(whole):
            raise refuse(whole)
        if whole not in self.made:
            body = {"origin": whole, "__slots__": ()}
            self.made[whole] = type(whole.rpartition(".")[2], (Stub,), body)
        return self.made[whole]

    def _inner(self, outer: Any, name: Any) -> type[Stub]:
        """``getattr``, as Python 3 writes a class inside a class; of stubs only."""
        if not (isinstance(outer, type) and issubclass(outer, Stub) and outer is not Stub):
            raise refuse("getattr")
        if not isinstance(name, str) or not WORD.fullmatch(name) or name.startswith("_"):
            raise refuse(f"getattr of {name!r}")
        return self._stub(f"{outer.origin}.{name}")


def array(value: Any) -> Any:
    """What was read of an array, as NumPy's; everything else as it is."""
    return value.value if isinstance(value, Array) else value


def loads(data: bytes | BinaryIO, **options: Any) -> Any:
    """One pickle of arrays and plain data."""
    file = io.BytesIO(data) if isinstance(data, (bytes, bytearray)) else data
    return Unpickler(file, **options).load()
