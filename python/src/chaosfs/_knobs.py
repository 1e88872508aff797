"""The knobs of a client, in the units of Python: seconds, numbers, booleans."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypedDict, Union

from . import _arguments as arguments
from ._arguments import Span
from ._errors import WrongType

#: A span of time; or the shortest and the longest of a range from which each change draws its own, as a pair or as a text
#: (``"500ms..1.2s"``).
Delay = Union[Span, tuple[Span, Span]]

#: Whether time is the machine's or stands still until it is moved with ``advance``.
Clock = Literal["real", "manual"]


class Knobs(TypedDict, total=False):
    """What can be tuned. What is left out has the value of its variable (``CHAOSFS_META_TTL_MS`` and so on), or else the
    default of ``chaosfs mount``."""

    # From the table of knobs.
    #: The kind of storage to behave like: the name of a profile, or the path of a TOML file.
    profile: str
    #: By what to multiply every span of time that comes from the profile.
    time_scale: float
    #: Mount options of the profile's storage, as fstab(5) has them, such as `acregmin=1,lookupcache=pos,nocto`.
    options: str
    #: Whether each lifetime and delay is drawn anew, evenly from 0 to what the other knobs say.
    explore: bool
    #: How long fetched attributes, names, absent names and listings are believed; 0 asks every time.
    meta_ttl: Span
    #: How long attributes are believed, and the bytes that were read with them.
    attr_ttl: Span
    #: How long attributes are believed at most: each refetch that finds no change doubles the time until then.
    attr_ttl_max: Span
    #: How long the attributes of directories are believed.
    dir_attr_ttl: Span
    #: How long the attributes of directories are believed at most, where no change is found.
    dir_attr_ttl_max: Span
    #: How long it is believed that a name leads to a file.
    name_ttl: Span
    #: How long it is believed that there is nothing of a name.
    absent_ttl: Span
    #: How long a listing of a directory is believed.
    list_ttl: Span
    #: How long data and new files take to land in the backing directory; 0 writes through.
    write_delay: Delay
    #: How long changes of a file's size by truncation or allocation take to land.
    resize_delay: Delay
    #: How long new files take to land; 0 makes them at once, while their data is late.
    create_delay: Delay
    #: How long changes of names, directories and attributes take to land; 0 applies them at once.
    rename_delay: Delay
    #: What ends the belief in a name or listing besides its time: nothing, or a change of its directory.
    names_by: str
    #: What tells that a file is as it was when it was fetched before, so that bytes that were read are still believed.
    change_evidence: str
    #: Whether opening a file asks the store about it, and drops what was read of it if it has changed.
    open_asks: str
    #: What an open that asks answers if its name leads elsewhere by now: what is there now is opened (`again`), or EIO.
    open_gone: str
    #: When listing a directory asks the store whether it has changed.
    listing_asks: str
    #: Whether reading a symlink asks the store whether its name still leads to it.
    symlinks_ask: bool
    #: Whether a directory that is held open is listed again when it is read from its start, or shows what it showed first.
    rewind_lists: bool
    #: What requests say of what they are about: which inode it is, or at which path this client knows it.
    requests_by: str
    #: Which changes end the belief in what they were about if they fail.
    failure_heals: str
    #: Which permissions are shown: those that are `stored`, or always these, of files and of directories: `644/755`.
    modes: str
    #: What stat(2) shows as the number of names: how many there are, or always one (of a directory two: `one-or-two`).
    link_counts: str
    #: What becomes of a file whose last name another client has taken away.
    unlinked: str
    #: What a rename is in the store: a `move`, which of `file-move` no directory with anything in it can be, or a `copy`.
    rename_by: str
    #: How long a rename that copies takes for each thing that it copies.
    copy_time: Delay
    #: From when the delays of data, sizes and new files count: each change, or the last close of its file for writing.
    delays_from: str
    #: Whether fsync(2) makes what it is about land. Else it returns at once, and nothing is safe.
    fsync_lands: bool
    #: What makes data land before its time, besides fsync(2).
    flush_on: str
    #: Whether looking a name up tells of changes in its directory.
    lookup_asks_directory: bool
    #: Whether listing a directory in the store brings the attributes of what is in it, so that older ones go.
    listing_brings_attributes: bool
    #: Whether extended attributes are believed, for as long as the other attributes of their file are.
    believes_xattrs: bool
    #: Which reads ask the store whether the file has changed, whatever is believed of it.
    reads_ask: str
    #: Whether what others write to a file is not seen by a client that has it open for writing.
    writer_ignores: bool
    #: Where a write to the end of a file goes (`O_APPEND`): to its end, or to where that was when the size was fetched last.
    append_at: str
    #: Which moment late data is dated with: that of its writer, or that at which the store gets it.
    dated_by: str
    #: What becomes of late data on a file that others have changed meanwhile.
    second_writer: str
    #: Where in a file programs may write; elsewhere EINVAL.
    writes_at: str
    #: In what data is written: the bytes that a program wrote, or the pages in which they are.
    write_unit: str
    #: What a file is renamed to that is open here when its name is removed or replaced: nothing, or a hidden name.
    hide_open_as: str
    #: Which locks clients share: none (`client`; `local` flushes and refreshes), those of fcntl(2), or those of flock(2), too.
    locks: str
    #: Whether locking shared needs a file open for reading, locking exclusively one open for writing; else EBADF.
    locks_need_access: bool
    #: Whether taking a shared lock drops what is believed of the file.
    locks_refresh: bool
    #: What is answered if somebody else has a shared lock.
    lock_conflict: str
    #: Which flags renameat2(2) takes; the others answer EINVAL.
    rename_flags: str
    #: Calls that the storage does not have, and the errno that each answers: `link=EPERM+setxattr=EOPNOTSUPP`.
    refuses: str
    #: The probability that an operation which can fail does so with EIO, before it has any effect.
    drop_prob: float
    #: Whether a client sees its own changes before they land.
    read_your_writes: bool
    #: How much memory changes in flight may take before programs that make one wait.
    max_in_flight: int
    #: How many changes may be in flight before programs that make one wait.
    max_mutations: int
    #: How much memory beliefs may take before the oldest are forgotten.
    max_belief: int


#: What each may be, and how it is written on the command line and on the control socket.
_TEXTS: dict[str, Callable[[str, object], str]] = {
    "profile": arguments.text,
    "time_scale": arguments.factor,
    "options": arguments.text,
    "explore": arguments.switch,
    "meta_ttl": arguments.span,
    "attr_ttl": arguments.or_that_of("meta_ttl", arguments.span),
    "attr_ttl_max": arguments.or_that_of("attr_ttl", arguments.span),
    "dir_attr_ttl": arguments.or_that_of("attr_ttl", arguments.span),
    "dir_attr_ttl_max": arguments.or_that_of("dir_attr_ttl", arguments.span),
    "name_ttl": arguments.or_that_of("meta_ttl", arguments.span),
    "absent_ttl": arguments.or_that_of("meta_ttl", arguments.span),
    "list_ttl": arguments.or_that_of("meta_ttl", arguments.span),
    "write_delay": arguments.delay,
    "resize_delay": arguments.or_that_of("write_delay", arguments.delay),
    "create_delay": arguments.or_that_of("write_delay", arguments.delay),
    "rename_delay": arguments.delay,
    "names_by": arguments.text,
    "change_evidence": arguments.text,
    "open_asks": arguments.text,
    "open_gone": arguments.text,
    "listing_asks": arguments.text,
    "symlinks_ask": arguments.switch,
    "rewind_lists": arguments.switch,
    "requests_by": arguments.text,
    "failure_heals": arguments.text,
    "modes": arguments.text,
    "link_counts": arguments.text,
    "unlinked": arguments.text,
    "rename_by": arguments.text,
    "copy_time": arguments.delay,
    "delays_from": arguments.text,
    "fsync_lands": arguments.switch,
    "flush_on": arguments.text,
    "lookup_asks_directory": arguments.switch,
    "listing_brings_attributes": arguments.switch,
    "believes_xattrs": arguments.switch,
    "reads_ask": arguments.text,
    "writer_ignores": arguments.switch,
    "append_at": arguments.text,
    "dated_by": arguments.text,
    "second_writer": arguments.text,
    "writes_at": arguments.text,
    "write_unit": arguments.text,
    "hide_open_as": arguments.text,
    "locks": arguments.text,
    "locks_need_access": arguments.switch,
    "locks_refresh": arguments.switch,
    "lock_conflict": arguments.text,
    "rename_flags": arguments.text,
    "refuses": arguments.text,
    "drop_prob": arguments.probability,
    "read_your_writes": arguments.switch,
    "max_in_flight": arguments.whole,
    "max_mutations": arguments.whole,
    "max_belief": arguments.whole,
}


def texts(knobs: Mapping[str, object]) -> dict[str, str]:
    """The knobs that are not ``None``, as the command line and the control socket take them."""
    unknown = sorted(str(name) for name in knobs.keys() - _TEXTS.keys())
    if unknown:
        raise WrongType(f"{unknown[0]!r} is not a knob; there are {', '.join(_TEXTS)}")
    return {name: _TEXTS[name](name, value) for name, value in knobs.items() if value is not None}
