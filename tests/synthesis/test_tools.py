"""Tools that do not end, and what router2's log says of its progress."""

import sys

import pytest

from coprune_hw.synthesis.ecp5_build import MOST_ITERATIONS, is_stuck
from coprune_hw.synthesis.tools import ToolError, ToolTimeoutError, run_tool


@pytest.fixture
def run_script(tmp_path, monkeypatch):
    """Runs a Python script as if it were Yosys."""
    monkeypatch.setenv("YOSYS", sys.executable)

    def run(script, **limits):
        log = tmp_path / "log"
        run_tool("yosys", ["-c", script], folder=tmp_path, log=log, **limits)
        return log.read_text()

    return run


def iterations(*left):
    return "".join(
        f"Info:     iter={number} wires=8500 overused={overused} overuse={overused + 3} "
        f"tmgfail={slow} archfail=NA\n"
        for number, (overused, slow) in enumerate(left, start=1)
    )


def test_a_tool_that_ends_leaves_its_log(run_script):
    assert run_script("print('done')", is_stuck=lambda log: False, timeout_seconds=60) == "done\n"
    with pytest.raises(ToolError, match=r"(?s)yosys ended with 3; the end of .*no room"):
        run_script("print('no room'); raise SystemExit(3)")


def test_a_tool_that_is_stuck_is_stopped(run_script):
    script = "import time; print('iter', flush=True); time.sleep(600)"
    with pytest.raises(ToolTimeoutError, match=r"(?s)yosys came no further; the end of .*iter"):
        run_script(script, is_stuck=lambda log: "iter" in log)
    with pytest.raises(ToolTimeoutError, match=r"yosys did not end in 0\.01 min"):
        run_script(script, timeout_seconds=0.6)


def test_a_router_is_stuck_after_iterations_without_progress():
    assert not is_stuck("Info: Routing..\n")
    # What is overused rises at first, and what is too slow comes up once nothing is overused.
    progress = [(292, 0), (573, 0), (60, 0), (0, 8)]
    waits = [(2, 9), (1, 11)] * (MOST_ITERATIONS // 2)
    assert not is_stuck(iterations(*progress, *waits[:-1]))
    assert is_stuck(iterations(*progress, *waits))
    assert not is_stuck(iterations(*progress, *waits[1:], (0, 7)))
