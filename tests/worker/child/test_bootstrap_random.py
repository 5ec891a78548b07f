"""Random generators that the app made or seeded at import: what siblings that were forked from it draw."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.worker.child.driver import Zygote

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a subreaper")

Draw = Callable[[str, str], tuple[list[list[float]], str]]

APP = """
from taskito import Queue
queue = Queue(db_path='/nonexistent/never-opened.db')
{made}

@queue.task(name="draw")
def draw():
    return [float(number) for number in ({drawn})]
"""


@pytest.fixture
def draw(zygote_process: Zygote, tmp_path: Path) -> Draw:
    """``draw("import random", "random.random(),")``: what three siblings draw of an app that did that when it
    was imported, and what was printed."""

    def draw(made: str, drawn: str) -> tuple[list[list[float]], str]:
        (tmp_path / "random_app.py").write_text(APP.format(made=made, drawn=drawn))
        zygote = Zygote("random_app:queue", env={"PYTHONPATH": str(tmp_path)})
        draws = []
        try:
            zygote.boot()
            for slot in range(3):
                child = zygote.fork(slot)
                try:
                    child.boot()
                    draws.append(child.value("draw"))
                finally:
                    child.close()
        finally:
            printed = zygote.close()
        return draws, printed

    return draw


def all_differ(draws: list[list[float]]) -> bool:
    """Each of the numbers is another one in each child."""
    return all(len(set(numbers)) == len(numbers) for numbers in zip(*draws, strict=True))


@pytest.mark.parametrize(
    ("made", "drawn"),
    [
        ("import random\nrandom.random()", "random.random(), random.getrandbits(40)"),
        ("import random\nrandom.seed(1); random.gauss(0, 1)", "random.gauss(0, 1), random.random()"),
        ("import numpy.random", "numpy.random.rand(), numpy.random.randint(1 << 40)"),
        (
            "import numpy\nnumpy.random.seed(1); numpy.random.randn()",
            "numpy.random.randn(), numpy.random.rand()",
        ),
        (
            "import numpy\nnumpy.random.set_bit_generator(numpy.random.PCG64(1)); numpy.random.randn()",
            "numpy.random.randn(), numpy.random.rand()",
        ),
        (
            "import os, random\nrng = random.Random(1)\nos.register_at_fork(after_in_child=rng.seed)",
            "rng.random(), rng.gauss(0, 1)",
        ),
        (
            "import functools, numpy\n@functools.cache\ndef rng(): return numpy.random.default_rng()",
            "rng().random(), rng().standard_normal()",
        ),
        ("import uuid, secrets", "uuid.uuid4().int % (1 << 50), secrets.randbits(50)"),
    ],
    ids=["random", "seeded", "numpy", "numpy seeded", "numpy of another kind", "hook", "first use", "system"],
)
def test_siblings_draw_other_numbers(draw: Draw, made: str, drawn: str) -> None:
    draws, printed = draw(made, drawn)

    assert all_differ(draws), draws
    assert "same numbers" not in printed


def test_a_generator_of_the_apps_own_goes_on_as_the_app_seeded_it(draw: Draw) -> None:
    made = "import random, numpy\nours, theirs = random.Random(1), numpy.random.default_rng(1)"

    [first, second, third], _ = draw(made, "ours.random(), theirs.random()")

    assert first == second == third


def test_a_generator_of_numpy_that_cannot_be_seeded_is_warned_of_and_children_start(draw: Draw) -> None:
    made = (
        "import numpy\n"
        "class Odd(numpy.random.PCG64):\n"
        "    def __init__(self, seed):\n"
        "        super().__init__(seed)\n"
        "numpy.random.set_bit_generator(Odd(1))"
    )

    draws, printed = draw(made, "numpy.random.rand(),")

    assert len(draws) == 3
    assert printed.count("numpy.random draws the same numbers in all children") == 3
