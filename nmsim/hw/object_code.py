"""Compiled functions kept as object code, so that a later process runs them without importing numba.

numba's own cache saves the compiler's work but not the import of the compiler and the set-up of its types, which take
longer than most simulations. Here numba compiles once; what is kept is the machine code of that one function, which
LLVM's linker alone brings back (llvmlite, which numba brings with it). Only functions that take int64 arrays and tuples
of them, return an integer and call nothing outside themselves can be kept.

Modelled: nothing of the hardware. Not modelled: everything else.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ENTRY = "nmsim_entry"
"""Name of the function in its object code."""
_DIGEST_BYTES = 32
_LOCAL_CALLS = ("llvm.",)
"""Declarations that the linker needs no address for."""

Compiled = Callable[..., int]

before_compiling: list[Callable[[], None]] = []
"""Called before anything is compiled, which takes about twenty seconds: for whoever wants to say so."""


def compiled_function(function: Callable[..., Any], arguments: tuple[Any, ...], folder: Path) -> Compiled:
    """`function` compiled for the types of `arguments`: from `folder` if it is there, else compiled and put there.

    The folder must be named by everything the function is made of. What is not a whole file of this processor and these
    compilers is compiled again; where the object code can't be made or kept, numba's function serves as it is.
    """
    import llvmlite.binding as llvm

    file = object_file(folder, function.__name__)
    code = _read(file)
    if code is not None:
        return _linked(llvm, code)
    for announce in before_compiling:
        announce()
    dispatcher, ir, entry = _compile(function, arguments)
    try:
        code = _object_code(llvm, ir, entry)
    except (AttributeError, RuntimeError):  # an LLVM that works otherwise: slower to start, not different
        return dispatcher
    if code is None:
        return dispatcher
    _keep(file, code)
    return _linked(llvm, code)


def object_file(folder: Path, name: str) -> Path:
    """Where the object code of a function is kept, for this processor and these compilers."""
    import llvmlite.binding as llvm

    made_by = (version("numba"), version("llvmlite"), platform.machine(), llvm.get_host_cpu_name(), _features(llvm))
    return folder / f"{name}-{hashlib.sha256('|'.join(made_by).encode()).hexdigest()[:16]}.o"


def _compile(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Compiled, str, str]:
    """(the compiled function, its LLVM module as text, the name of its native form there)."""
    import numba

    from nmsim.rules.jit import register_rules

    register_rules()
    njit: Any = numba.njit
    typeof: Any = numba.typeof
    dispatcher = njit(nogil=True, boundscheck=False, _nrt=False)(function)
    signature = tuple(typeof(argument) for argument in arguments)
    dispatcher.compile(signature)
    native: str = dispatcher.overloads[signature].fndesc.llvm_func_name
    ir: str = dispatcher.inspect_llvm(signature)
    return dispatcher, ir, native


def _object_code(llvm: Any, ir: str, entry: str) -> bytes | None:
    """Machine code of one function of a module and of what it calls there; None where it calls something outside."""
    machine = _target_machine(llvm)
    module = llvm.parse_assembly(ir)
    for function in module.functions:
        if not function.is_declaration:
            function.linkage = "external" if function.name == entry else "internal"
    module.get_function(entry).name = ENTRY
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options())
    passes = builder.getModulePassManager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, builder)
    if any(function.is_declaration and not function.name.startswith(_LOCAL_CALLS) for function in module.functions):
        return None
    code: bytes = machine.emit_object(module)
    return code


def _target_machine(llvm: Any) -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=_features(llvm), opt=3, reloc="pic", codemodel="default")


def _features(llvm: Any) -> str:
    try:
        features: str = llvm.get_host_cpu_features().flatten()
    except RuntimeError:  # not known on every processor
        return ""
    return features


def _linked(llvm: Any, code: bytes) -> Compiled:
    """A Python function over the entry of object code."""
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target_machine(llvm))
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    address = engine.get_function_address(ENTRY)
    prototypes: dict[int, Any] = {}

    def call(*arguments: Any, _keep_alive: Any = engine) -> int:
        result, error = ctypes.c_int64(), ctypes.c_int64()
        words = (ctypes.addressof(result), ctypes.addressof(error), *_words(arguments))
        if len(words) not in prototypes:
            prototypes[len(words)] = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_int64] * len(words))(address)
        status = prototypes[len(words)](*words)
        if status != 0:
            raise ArithmeticError(f"compiled code ended with status {status}")
        return result.value

    return call


def _words(arguments: tuple[Any, ...]) -> list[int]:
    """Arguments as numba's native calling convention lays them out, each word as an integer: a tuple is its items; an array is its
    owner (two pointers, none here), items, item size, data, shape and strides.
    """
    words: list[int] = []
    for argument in arguments:
        if isinstance(argument, tuple):
            words += _words(argument)
            continue
        if argument.dtype != np.int64 or not argument.flags.c_contiguous:
            raise TypeError(f"compiled code takes contiguous int64 arrays, not {argument.dtype} with strides {argument.strides}")
        words += (0, 0, argument.size, argument.itemsize, argument.__array_interface__["data"][0], *argument.shape, *argument.strides)
    return words


def _read(file: Path) -> bytes | None:
    """The code in a file, None where it is missing or not whole."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    digest, code = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return code if hashlib.sha256(code).digest() == digest else None


def _keep(file: Path, code: bytes) -> None:
    """Write to a temporary name, then rename; a cache that can't be written is only slower."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as draft:
            draft.write(hashlib.sha256(code).digest() + code)
        os.replace(draft.name, file)
    except OSError:
        return
