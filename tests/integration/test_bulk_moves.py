"""Many jobs moved at once on ZooKeeper: what stands in the way of one is told of that one, and harms no other."""

from __future__ import annotations

from pathlib import Path

from kazoo.security import make_acl

from conductor_console.jobboards.zk_reads import Reads
from conductor_console.operations import FileAudit, Operations
from tests.integration.helpers import job, opened, take
from tests.servers import Zookeeper
from tests.support import eventually

MANY = 40


def test_what_is_special_is_told_and_the_rest_is_moved(zookeeper: Zookeeper, zk_path: str, tmp_path: Path) -> None:
    url = f"zk://{zookeeper.hosts}{zk_path}"
    trash = f"{zk_path.rpartition('/')[0]}/.trash"
    with opened(url) as board, opened(url) as other, zookeeper.kazoo() as client:
        uuids = [board.post(f"order-{number}").uuid for number in range(MANY)]
        seen = [job(board, uuid) for uuid in uuids]
        claimed, gone, private, taken = seen[3], seen[9], seen[20], seen[33]
        take(other, claimed.key, "c9")
        other.delete(job(other, gone.key))
        rights = [make_acl("world", "anyone", read=True, delete=True, admin=True)]
        client.set_acls(f"{zk_path}/{private.node}", rights)
        client.create(f"{trash}/{taken.node}", b'{"uuid": "another", "name": "another"}')
        ops = Operations(board, operator="anna", audit=FileAudit(tmp_path / "audit.jsonl"))
        results = ops.bin(seen, "many")
        assert [one.key for one in results] == uuids
        assert {one.key: one.result for one in results if one.result != "done"} == {
            claimed.key: "changed",
            gone.key: "gone",
        }
        binned = board.listing().binned
        assert {one.uuid for one in binned.values()} == {"another", *uuids} - {claimed.uuid, gone.uuid}
        assert all(one.why == "many" for one in binned.values() if one.uuid != "another")
        assert client.get_acls(f"{trash}/{private.node}")[0] == rights
        assert list(board.listing().jobs) == [claimed.key]

        back = ops.undo()
        assert {one.result for one in back} == {"done"}
        assert client.get_acls(f"{zk_path}/{private.node}")[0] == rights
        jobs = board.listing().jobs
        assert set(jobs) == set(uuids) - {gone.key}
        assert {entry.key: entry.node for entry in jobs.values()} == {
            entry.key: entry.node for entry in seen if entry is not gone
        }
        assert [one.uuid for one in board.listing().binned.values()] == ["another"]
        records = [entry.record for entry in jobs.values() if entry.key != claimed.key]
        assert all(record is not None and record.binned is None for record in records)
        # The other board sees the same, to the last time and version, by watches and by reading alone.
        eventually(lambda: other.listing().jobs == board.listing().jobs, what="the other board to show it")
        again = [entry for entry in board.listing().jobs.values() if entry.claim is None]
        assert {one.result for one in ops.bin(again, "again")} == {"done"}
        eventually(lambda: other.listing().binned == board.listing().binned, what="the other bin to show it")


def test_each_of_many_nodes_that_are_read_at_once_is_watched(zookeeper: Zookeeper, zk_path: str) -> None:
    names = [str(number) for number in range(200)]
    with zookeeper.kazoo() as client, zookeeper.kazoo() as other:
        for name in names:
            other.create(f"{zk_path}/{name}", name.encode(), makepath=True)
        told: list[str] = []
        client.get_children(zk_path)
        reads = Reads(client)
        found = dict(reads.watched(names, lambda name: f"{zk_path}/{name}", lambda event: told.append(event.path)))
        assert reads.proven
        assert {name: one[0] for name, one in found.items()} == {name: name.encode() for name in names}
        other.set(f"{zk_path}/5", b"new")
        other.delete(f"{zk_path}/150")
        other.set(f"{zk_path}/5", b"newer")
        other.create(f"{zk_path}/new", b"")
        eventually(lambda: len(told) == 2, what="both to be told of")
        # What changes between the reading and the watch is told of at once.
        zxid = client.last_zxid
        other.set(f"{zk_path}/7", b"new")
        client.sync(zk_path)
        reads._watch([f"{zk_path}/7"], lambda event: told.append(event.path), zxid).get(timeout=30)
        eventually(lambda: len(told) >= 3, what="the third to be told of")
        assert sorted(set(told)) == [f"{zk_path}/150", f"{zk_path}/5", f"{zk_path}/7"]
