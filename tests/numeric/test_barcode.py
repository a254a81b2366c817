"""Barcodes: both directions of completeness, known cases, errors, plot and command."""

import json

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from numeric.barcode import (
    Barcode,
    barcode,
    bars_of_table,
    from_table,
    network_barcode,
    parse_bars,
    plot,
    rank_table,
    realise,
)
from numeric.networks import EXACT, Linear, Network, ReLU
from numeric.strategies import barcodes, networks
from rankfall.commands.numeric_check import barcode as command
from theory.errors import InputError


def maps(*tables):
    return [EXACT.matrix(len(t), len(t[0]), [e for row in t for e in row]) for t in tables]


@given(barcodes(depth=(1, 5)))
def test_realisation_has_the_barcode(code):
    chain = realise(code)
    assert barcode(chain) == code
    assert all(e in (0, 1) for m in chain for e in m.entries())


@given(st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_integers_are_ranks_exactly_when_no_bar_is_negative(values):
    """Completeness on arbitrary tables of a chain of two maps, against the theorem's condition."""
    keys = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    table = dict(zip(keys, values, strict=True))
    r = table
    bars = {  # written out by hand, independent of the module
        (0, 2): r[0, 2],
        (0, 1): r[0, 1] - r[0, 2],
        (1, 2): r[1, 2] - r[0, 2],
        (0, 0): r[0, 0] - r[0, 1],
        (1, 1): r[1, 1] - r[0, 1] - r[1, 2] + r[0, 2],
        (2, 2): r[2, 2] - r[1, 2],
    }
    assert bars_of_table(table) == bars
    if min(bars.values()) >= 0:
        assert rank_table(realise(from_table(table))) == table
    else:
        with pytest.raises(InputError, match="no chain has these ranks"):
            from_table(table)


@given(networks(depth=(1, 4), width=(1, 5)))
@settings(max_examples=60)
def test_networks_have_barcodes_that_count_their_ranks(case):
    network, x = case
    code = network_barcode(network, x)
    taps = network.taps(x)
    assert [code.rank(0, k) for k in range(code.depth + 1)] == [J.rank() for _, J in taps]
    assert sum(m for i, j, m in code.bars if j == code.depth and i == 0) == taps[-1][1].rank()


def test_a_case_by_hand():
    # e1 passes both layers, e2 dies at the ReLU, the third coordinate is born after layer 1
    network = Network((2,), (Linear(((1, 0), (0, -1), (0, 0)), (0, 0, 1)), ReLU()))
    code = network_barcode(network, (1, 1))
    assert code.bars == ((0, 1, 1), (0, 2, 1), (1, 2, 1), (2, 2, 1))
    assert code.dimensions == (2, 3, 3)


def test_completeness_is_more_than_monotone():
    # every rank is monotone here, and still no chain has these (Frobenius fails)
    table = {(0, 0): 1, (1, 1): 1, (2, 2): 1, (0, 1): 1, (1, 2): 1, (0, 2): 0}
    with pytest.raises(InputError, match=r"r\(1,1\) - r\(0,1\) - r\(1,2\) \+ r\(0,2\) = -1"):
        from_table(table)


def test_errors():
    with pytest.raises(InputError, match=r"do not compose: shapes \(1, 2\) and \(1, 3\)"):
        rank_table(maps([[1, 0]], [[1, 0, 0]]))
    with pytest.raises(InputError, match="at least one map"):
        rank_table([])
    with pytest.raises(InputError, match=r"r\(0, 1\) is missing"):
        from_table({(0, 0): 1, (1, 1): 1})
    for text in ("", "0-2y3", "2-1", "a-b", "1"):
        with pytest.raises(InputError):
            parse_bars(text)
    assert parse_bars("0-2x3, 1-1, 1-1") == Barcode(2, ((0, 2, 3), (1, 1, 2)))


def test_plot_draws_every_copy(tmp_path):
    path = tmp_path / "bars.svg"
    plot(Barcode(2, ((0, 2, 2), (1, 1, 1))), str(path))
    text = path.read_text()
    assert text.startswith("<?xml")
    assert text.count('<g id="line2d_') >= 3
    with pytest.raises(InputError, match="cannot write the plot"):
        plot(Barcode(1, ((0, 1, 1),)), str(tmp_path / "absent" / "bars.svg"))


def test_command(tmp_path):
    run = CliRunner().invoke(command, ["--bars", "0-2x3,1-1", "--json"], standalone_mode=False)
    data = json.loads(run.output)
    assert data["bars"] == [[0, 2, 3], [1, 1, 1]]
    assert data["dimensions"] == [3, 4, 3]
    assert data["notion"] == "exact"
    chain = tmp_path / "chain.json"
    chain.write_text('[[[1, "1/2"], [2, 1]], [[1, 0]]]')
    plain = CliRunner().invoke(command, [str(chain)], standalone_mode=False)
    assert "dimensions 2 -> 2 -> 1, notion exact" in plain.output
    assert "rank of the first k layers: 2, 1, 1" in plain.output
    drawn = CliRunner().invoke(command, ["--seed", "3", "--json"], standalone_mode=False)
    assert sum(m for i, j, m in json.loads(drawn.output)["bars"] if i == 0) == 6


@pytest.mark.parametrize(
    "text", ["not json", "{}", "[]", "[[[1.5]]]", "[[[1],[2,3]]]", '[[["1/0"]]]', "[[]]", "[3]"]
)
def test_command_refuses_bad_chains(tmp_path, text):
    chain = tmp_path / "chain.json"
    chain.write_text(text)
    run = CliRunner().invoke(command, [str(chain)], standalone_mode=False)
    assert isinstance(run.exception, InputError), run.exception
    assert str(chain) in str(run.exception)
