"""Listings of a board, taken to pieces: as kazoo's own, whatever the names."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kazoo.protocol.serialization import GetChildren2, int_struct, stat_struct, write_string
from kazoo.protocol.states import ZnodeStat

from conductor_console.jobboards.zk_listing import Listed, _Listing
from conductor_console.jobboards.zk_paths import split_children

STAT: Final = ZnodeStat(*range(11))
#: A name in ZooKeeper has no slash and no null; its length may need more than one octet.
NAMES: Final = st.lists(
    st.one_of(
        st.from_regex(r"\Ajob[0-9]{10}(\.lock)?\Z"),
        st.text(st.characters(exclude_characters="\0/", codec="utf-8"), min_size=1, max_size=300),
    ),
    max_size=20,
)


def octets(names: list[str]) -> bytes:
    """A server's answer, behind what its header took."""
    told = b"".join(bytes(write_string(name)) for name in names)
    return b"header" + int_struct.pack(len(names)) + told + stat_struct.pack(*STAT)


@given(NAMES)
def test_a_listing_is_read_as_kazoo_reads_it(names: list[str]) -> None:
    answer = octets(names)
    assert _Listing.deserialize(answer, len(b"header")) == (names, STAT)
    assert _Listing.deserialize(answer, len(b"header")) == GetChildren2.deserialize(answer, len(b"header"))


def test_a_board_s_listing_is_taken_to_pieces_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name by name costs a process that follows 50,000 jobs several times as much."""
    names = [f"job{number:010d}{suffix}" for number in range(100) for suffix in ("", ".lock")]
    monkeypatch.delattr(GetChildren2, "deserialize")
    assert _Listing.deserialize(octets(names), len(b"header"))[0] == names


@given(st.lists(NAMES, max_size=5))
def test_what_differs_is_enough_to_know_postings_and_locks(listings: list[list[str]]) -> None:
    listed = Listed()
    for names in listings:
        assert listed.split(names) == split_children(names)
