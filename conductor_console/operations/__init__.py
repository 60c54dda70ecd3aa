"""What an operator may do: bin, delete, restore, retry, hold, release, post, undo; guarded and audited in one place."""

from conductor_console.operations.acts import Intent, Operations
from conductor_console.operations.audit import Audit, AuditFailed, FileAudit, StoreAudit
from conductor_console.operations.audited import Result, Verdict
from conductor_console.operations.course import Course
from conductor_console.operations.past import Past
from conductor_console.operations.posting import PostRequest

__all__ = [
    "Audit",
    "AuditFailed",
    "Course",
    "FileAudit",
    "Intent",
    "Operations",
    "Past",
    "PostRequest",
    "Result",
    "StoreAudit",
    "Verdict",
]
