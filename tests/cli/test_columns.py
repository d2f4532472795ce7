"""Lists fit a terminal of any width, and lose nothing in a pipe."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from askonce.cli.columns import GAP, NARROWEST, Column, fitted, lines, table

COLUMNS = (Column("key"), Column("left", right=True), Column("scope", cut=True), Column("model", cut=True))
words = st.text(st.characters(categories=("L", "N", "P")), max_size=40)
rows = st.lists(st.tuples(st.text("0123456789abcdef", min_size=12, max_size=12), words, words, words), max_size=5)


def shown(made, width: int) -> list[str]:
    page = io.StringIO()
    Console(width=width, file=page, highlight=False, markup=False).print(made)
    return page.getvalue().splitlines()


@given(rows, st.integers(12, 200))
def test_a_table_is_a_line_a_row_and_no_wider_than_the_terminal(told, width):
    told = [(key, left[:12], scope, model) for key, left, scope, model in told]
    made = shown(table(COLUMNS, told, width), width)
    assert len(made) == len(told) + 1
    assert max(map(cell_len, made)) <= width


@given(rows, st.integers(12, 200))
def test_a_column_that_is_shown_is_whole_or_at_least_eight_cells_wide(told, width):
    told = [(key, left[:12], scope, model) for key, left, scope, model in told]
    wide = fitted(COLUMNS, told, width)
    for number, given_width in wide:
        needed = max(cell_len(word) for word in [COLUMNS[number].heading, *(row[number] for row in told)])
        assert given_width == needed or (COLUMNS[number].cut and NARROWEST <= given_width < needed)
    used = sum(one for _, one in wide) + GAP * (len(wide) - 1)
    assert used <= width or len(wide) == 1


@given(rows, st.integers(12, 200))
def test_nothing_is_cut_while_there_is_room(told, width):
    told = [(key, left[:12], scope, model) for key, left, scope, model in told]
    wide = fitted(COLUMNS, told, width)
    cut = [
        number
        for number, given_width in wide
        if given_width < max(cell_len(word) for word in [COLUMNS[number].heading, *(row[number] for row in told)])
    ]
    assert not cut or sum(one for _, one in wide) + GAP * (len(wide) - 1) == width


@given(rows)
def test_room_for_everything_is_used_for_everything(told):
    assert len(fitted(COLUMNS, told, 400)) == len(COLUMNS)
    made = shown(table(COLUMNS, told, 400), 400)
    for row, line in zip(told, made[1:], strict=True):
        assert all(word in line for word in row)


@given(rows)
def test_a_pipe_gets_every_word_of_every_row(told):
    got = [tuple(line.split("\t")) for line in lines(COLUMNS, told).removesuffix("\n").split("\n")]
    assert got == [tuple(one.heading for one in COLUMNS), *told]


def test_two_long_words_share_the_room_and_a_short_one_is_not_cut_for_a_long_one():
    told = [("k" * 12, "1h 2m", "a/very/long/scope/of/a/program", "gpt-5-mini")]
    assert dict(fitted(COLUMNS, told, 55)) == {0: 12, 1: 5, 2: 55 - 12 - 5 - 10 - 3 * GAP, 3: 10}


@given(st.lists(st.tuples(*[st.text(st.characters(exclude_categories=()), max_size=20)] * 4), max_size=4))
def test_whatever_is_in_a_word_lines_are_lines_of_columns(told):
    said = lines(COLUMNS, told)
    assert said.replace("\t", "").replace("\n", "").isprintable()
    assert {line.count("\t") for line in said.splitlines()} == {len(COLUMNS) - 1}
    assert said.count("\n") == len(told) + 1
