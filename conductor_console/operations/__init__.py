"""What an operator may do: bin, delete, restore, retry, post, undo; guarded and audited in one place."""

from conductor_console.operations.acts import Operations, Result, Verdict
from conductor_console.operations.audit import Audit, AuditFailed, FileAudit, StoreAudit
from conductor_console.operations.posting import PostRequest

__all__ = ["Audit", "AuditFailed", "FileAudit", "Operations", "PostRequest", "Result", "StoreAudit", "Verdict"]
