"""The child's end of the bridge to its Node parent.

File descriptor 3 is a unix stream socket. Both directions carry Dask's own framing
(``u64 nosplit | u64 nframes | u64 length[nframes] | frames``). Frame 0 is a msgpack *array of maps*,
the batch; ``{"__Serialized__": n}`` and ``{"__Pickled__": n}`` in it point at a sub-header frame
that is followed by its payload frames, as in distributed's messages. Sub-messages stay closed: they
are :class:`distributed.protocol.serialize.Serialized` and ``Pickled`` objects (``header`` a dict,
``frames`` a list of writable memoryviews). On the way out ``Serialize`` and ``ToPickle`` work too.

Messages:

* one-way: ``{"op": str, ...}``;
* request: ``{"op": str, "id": int, ...}``; each side numbers its own;
* reply: ``{"op": "reply", "id": int, ...}``, on failure with the fields of ``error_message``;
* part of a long reply, before it: ``{"op": "chunk", "id": int, ...}``.

The first message of a child is ``{"op": "ready", "pid", "versions", ...}``.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import ctypes
import faulthandler
import itertools
import logging
import os
import select
import signal
import socket
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import msgpack
from distributed.protocol.serialize import (
    Pickled,
    Serialize,
    Serialized,
    ToPickle,
    msgpack_decode_default,
    msgpack_encode_default,
    serialize_and_split,
)
from distributed.utils import ensure_memoryview

Message = dict[str, Any]

BRIDGE_FD = 3
#: Frames from this size on are read into a buffer of their own and written without being copied.
LARGE = 64 * 1024
#: A buffer travels in frames of so many bytes (``distributed.comm.shard``): one of this size is followed by its rest,
#: and what is received into one buffer need not be put together by a copy.
SHARD = 64 * 2**20
SCRATCH = 256 * 1024
#: Of a large frame: so much has to be there before the thread that waits for it is woken.
LOW_WATER = 256 * 1024
#: Linux takes this many buffers in one ``sendmsg``.
IOV_MAX = 1024
MAX_FRAME_BYTES = 0xFFFF_FFFF
_U64X2 = struct.Struct("<QQ")

logger = logging.getLogger(__name__)


class BridgeClosed(ConnectionError):
    """The parent is gone."""


def _host_array(n: int) -> memoryview:
    from distributed.protocol.utils import host_array

    return host_array(n)


def decode_message(frames: list[Any]) -> Any:
    """Frames of one message to its value; sub-messages stay closed, arrays become tuples."""

    def hook(obj: dict) -> Any:
        index = obj.get("__Serialized__")
        if index is not None:
            return Serialized(*_sub_message(frames, index))
        index = obj.get("__Pickled__")
        if index is not None:
            return Pickled(*_sub_message(frames, index))
        if "__Set__" in obj or "__Enum__" in obj:
            return msgpack_decode_default(obj)
        return obj

    return msgpack.unpackb(
        frames[0],
        object_hook=hook,
        use_list=False,
        raw=False,
        strict_map_key=False,
    )


def _sub_message(frames: list[Any], index: int) -> tuple[dict, list]:
    header = msgpack.unpackb(frames[index], use_list=False, raw=False, strict_map_key=False)
    count = header["num-sub-frames"]
    return header, frames[index + 1 : index + 1 + count]


def numpy_scalar(obj: Any) -> Any:
    """A plain number for a numpy scalar, which msgpack does not know; TypeError for others."""
    item = getattr(obj, "item", None)
    if item is not None and getattr(obj, "ndim", None) == 0:
        return item()
    raise TypeError(f"cannot send a {type(obj).__name__} over the bridge")


class Encoder:
    """Collects messages into one batch. A message that cannot be encoded leaves no trace in it."""

    def __init__(self) -> None:
        self._packer = msgpack.Packer(default=self._default, use_bin_type=True)
        self.clear()

    def clear(self) -> None:
        self.documents: list[bytes] = []
        self.frames: list[Any] = []

    def add(self, message: Message) -> None:
        mark = len(self.frames)
        try:
            self.documents.append(self._packer.pack(message))
        except BaseException:
            del self.frames[mark:]
            self._packer.reset()
            raise

    def take(self) -> list[Any]:
        """The frames of the batch; the encoder is empty afterwards."""
        head = msgpack.Packer().pack_array_header(len(self.documents))
        frames = [b"".join([head, *self.documents]), *self.frames]
        self.clear()
        return frames

    def _place(self, header: dict, frames: list) -> int:
        index = len(self.frames) + 1
        header["num-sub-frames"] = len(frames)
        self.frames.append(msgpack.packb(header, default=msgpack_encode_default, use_bin_type=True))
        self.frames.extend(frames)
        return index

    def _default(self, obj: Any) -> Any:
        if isinstance(obj, Serialized):
            return {"__Serialized__": self._place(obj.header, obj.frames)}
        if isinstance(obj, Pickled):
            return {"__Pickled__": self._place(obj.header, obj.frames)}
        if isinstance(obj, Serialize):
            header, frames = serialize_and_split(obj)
            header["compression"] = list(header.get("compression", [None] * len(frames)))
            return {"__Serialized__": self._place(header, frames)}
        if isinstance(obj, ToPickle):
            from distributed.protocol import pickle

            buffers: list[Any] = []
            data = pickle.dumps(obj.data, buffer_callback=lambda b: buffers.append(b.raw()))
            header = {"pickled-obj": data, "compression": [None] * len(buffers)}
            return {"__Pickled__": self._place(header, buffers)}
        encoded = msgpack_encode_default(obj)
        return numpy_scalar(obj) if encoded is obj else encoded


def encode_message(messages: list[Message]) -> list[Any]:
    """A batch to its frames."""
    encoder = Encoder()
    for message in messages:
        encoder.add(message)
    return encoder.take()


def drop_sent(queue: deque[memoryview], sent: int) -> None:
    """Takes off the front of a queue what ``sendmsg`` has sent of it."""
    while sent:
        first = queue[0]
        if sent < len(first):
            queue[0] = first[sent:]
            return
        sent -= len(first)
        queue.popleft()


def pack_frames(frames: list[Any]) -> list[memoryview]:
    """The buffers to write for one message: small frames joined, large ones as they are."""
    views = [f if isinstance(f, bytes) else ensure_memoryview(f) for f in frames]
    lengths = [len(v) for v in views]
    total = 8 * (len(views) + 1) + sum(lengths)
    joined: list[Any] = [struct.pack(f"<QQ{len(views)}Q", total, len(views), *lengths)]
    out: list[memoryview] = []
    for view, length in zip(views, lengths, strict=True):
        if length < LARGE:
            joined.append(view)
        elif length:
            out.append(memoryview(b"".join(joined)))
            out.append(memoryview(view))
            joined = []
    if joined:
        out.append(memoryview(b"".join(joined)))
    return out


def _shards(lengths: tuple[int, ...], first: int) -> list[int]:
    """The lengths of the frames from ``first`` on that belong to one buffer."""
    end = first + 1
    while lengths[end - 1] == SHARD and end < len(lengths):
        end += 1
    return list(lengths[first:end])


def _receive_rest(sock: socket.socket, rest: memoryview) -> int:
    """Fills ``rest`` in one or two calls, from a socket that blocks."""
    if len(rest) < 2 * LOW_WATER:
        return sock.recv_into(rest, 0, socket.MSG_WAITALL)
    # Or the kernel wakes this thread for every packet. The end of it, which may come to less, has to wake it.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, LOW_WATER)
    try:
        return sock.recv_into(rest[:-LOW_WATER], 0, socket.MSG_WAITALL)
    finally:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


class FrameReader:
    """Reads messages off a socket. Large frames are received in place, so they are held once."""

    def __init__(self, on_frames: Callable[[list[Any]], None]) -> None:
        self._on_frames = on_frames
        self._scratch = memoryview(bytearray(SCRATCH))
        self._start = 0
        self._end = 0
        self._lengths: tuple[int, ...] | None = None
        self._frames: list[Any] = []
        self._large: memoryview | None = None
        #: Lengths of the frames that are received into ``_large``.
        self._shards: list[int] = []
        self._filled = 0
        #: Receives the rest of a large frame in one call; for sockets that block.
        self.wait_for_all = False

    def read(self, sock: socket.socket) -> bool:
        """One ``recv``. False at the end of the stream; BlockingIOError passes through."""
        if self._large is not None:
            if self.wait_for_all:
                n = _receive_rest(sock, self._large[self._filled :])
            else:
                n = sock.recv_into(self._large[self._filled :])
            if n == 0:
                return False
            self._filled += n
            if self._filled == len(self._large):
                start = 0
                for length in self._shards:
                    self._frames.append(self._large[start : start + length])
                    start += length
                self._large = None
                self._parse()
            return True
        n = sock.recv_into(self._scratch[self._end :])
        if n == 0:
            return False
        self._end += n
        self._parse()
        return True

    def _parse(self) -> None:
        scratch = self._scratch
        while True:
            available = self._end - self._start
            lengths = self._lengths
            if lengths is None:
                if available < 16:
                    return self._make_room(16)
                _, count = _U64X2.unpack_from(scratch, self._start)
                size = 16 + 8 * count
                if available < size:
                    return self._make_room(size)
                lengths = struct.unpack_from(f"<{count}Q", scratch, self._start + 16)
                self._lengths = lengths
                self._start += size
                available -= size
            frames = self._frames
            while len(frames) < len(lengths):
                length = lengths[len(frames)]
                if length > MAX_FRAME_BYTES:
                    raise ValueError(f"a frame of {length} bytes is over the limit")
                if length <= available:
                    frames.append(memoryview(bytearray(scratch[self._start : self._start + length])))
                    self._start += length
                    available -= length
                elif length >= LARGE:
                    self._shards = _shards(lengths, len(frames))
                    large = _host_array(sum(self._shards))
                    large[:available] = scratch[self._start : self._end]
                    self._large, self._filled = large, available
                    self._start = self._end = 0
                    return
                else:
                    return self._make_room(length)
            self._frames = []
            self._lengths = None
            self._on_frames(frames)
            scratch = self._scratch

    def _make_room(self, size: int) -> None:
        """The unread rest moves to the front of a scratch buffer of at least ``size`` bytes."""
        rest = self._scratch[self._start : self._end]
        if size > len(self._scratch):
            grown = memoryview(bytearray(size + SCRATCH))
            grown[: len(rest)] = rest
            self._scratch = grown
        elif self._start:
            if self._start == self._end:
                pass
            elif self._end + size > len(self._scratch) or self._start >= len(rest):
                self._scratch[: len(rest)] = bytes(rest)
            else:
                return
        else:
            return
        self._end = len(rest)
        self._start = 0


class Bridge:
    """Messages to and from the parent. ``send``, ``reply`` and ``request_sync`` are thread-safe.

    With :meth:`attach` messages are read and handled on an asyncio loop (its thread calls
    ``on_message``); with :meth:`run` in the calling thread, until the parent is gone.

    Parameters
    ----------
    sock:
        the connected socket; the bridge owns it
    on_message:
        called for each message that is neither a reply nor a chunk
    on_closed:
        called once when the parent is gone
    """

    def __init__(
        self,
        sock: socket.socket,
        on_message: Callable[[Message], Any],
        on_closed: Callable[[], Any] | None = None,
    ) -> None:
        self._sock = sock
        self._on_message = on_message
        self._on_closed = on_closed
        self._reader = FrameReader(self._received)
        self._ids = itertools.count(1)
        self._waiting: dict[int, concurrent.futures.Future] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread: int | None = None
        # guards encoder, backlog and the order on the socket
        self._lock = threading.RLock()
        self._encoder = Encoder()
        self._backlog: deque[memoryview] = deque()
        self._flush_scheduled = False
        self._writer_armed = False
        self.closed = False

    @classmethod
    def from_parent(
        cls,
        on_message: Callable[[Message], Any],
        on_closed: Callable[[], Any] | None = None,
    ) -> Bridge:
        """The bridge on file descriptor 3, for the main function of a child."""
        prepare_child()
        sock = socket.socket(fileno=BRIDGE_FD)
        os.set_inheritable(BRIDGE_FD, False)
        return cls(sock, on_message, on_closed)

    # reading

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Reads and handles messages on ``loop``; call it in the loop's thread."""
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._sock.setblocking(False)
        loop.add_reader(self._sock, self._readable)
        with self._lock:
            self._arm_writer()

    def run(self) -> None:
        """Reads and handles messages in this thread until the parent is gone."""
        try:
            while self._reader.read(self._sock):
                pass
        except OSError:
            pass
        self.close()

    def _readable(self) -> None:
        try:
            # a few reads a turn, so that a stream of large frames does not starve the loop
            for _ in range(16):
                if not self._reader.read(self._sock):
                    self.close()
                    return
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.close()

    def _received(self, frames: list[Any]) -> None:
        for message in decode_message(frames):
            if message.get("op") == "reply":
                future = self._waiting.pop(message["id"], None)
                if future is not None and future.set_running_or_notify_cancel():
                    future.set_result(message)
                continue
            try:
                self._on_message(message)
            except Exception:
                logger.exception("A message of the parent failed: %s", message.get("op"))

    # writing

    def send(self, message: Message) -> None:
        """Queues a message. What is queued in one turn of the loop goes out as one batch.

        Raises TypeError or OverflowError where the message cannot be encoded.
        """
        with self._lock:
            if self.closed:
                return
            self._encoder.add(message)
            if self._flush_scheduled:
                return
            loop = self._loop
            if loop is None:
                self._flush()
                return
            self._flush_scheduled = True
        try:
            if threading.get_ident() == self._loop_thread:
                loop.call_soon(self.flush)
            else:
                loop.call_soon_threadsafe(self.flush)
        except RuntimeError:  # the loop is closed
            self.flush()

    def send_now(self, *messages: Message) -> None:
        """Writes messages at once, behind those queued, from any thread."""
        with self._lock:
            if self.closed:
                return
            for message in messages:
                self._encoder.add(message)
            self._flush()

    def flush(self) -> None:
        """Writes what is queued, as far as the socket takes it."""
        with self._lock:
            self._flush_scheduled = False
            self._flush()

    def _flush(self) -> None:
        if self._encoder.documents:
            self._backlog.extend(pack_frames(self._encoder.take()))
        try:
            if self._loop is None:
                while self._backlog:
                    self._write_some(0)
            else:
                self._write_some(socket.MSG_DONTWAIT)
                while self._backlog:
                    self._write_some(socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            self._arm_writer()
        except OSError:
            self._backlog.clear()

    def _write_some(self, flags: int) -> None:
        backlog = self._backlog
        if not backlog:
            return
        drop_sent(backlog, self._sock.sendmsg(list(itertools.islice(backlog, IOV_MAX)), [], flags))

    def _arm_writer(self) -> None:
        if self._writer_armed or not self._backlog or self._loop is None:
            return
        self._writer_armed = True
        if threading.get_ident() == self._loop_thread:
            self._loop.add_writer(self._sock, self._writable)
        else:
            self._loop.call_soon_threadsafe(self._loop.add_writer, self._sock, self._writable)

    def _writable(self) -> None:
        with self._lock:
            self._flush()
            if not self._backlog and self._loop is not None:
                self._loop.remove_writer(self._sock)
                self._writer_armed = False

    @property
    def queued_bytes(self) -> int:
        """Bytes that the parent has not taken yet."""
        with self._lock:
            return sum(len(b) for b in self._backlog)

    # requests

    def _request(self, op: str, fields: Message) -> concurrent.futures.Future:
        future: concurrent.futures.Future = concurrent.futures.Future()
        number = next(self._ids)
        self._waiting[number] = future
        if self.closed:
            self._waiting.pop(number, None)
            raise BridgeClosed("the parent is gone")
        try:
            self.send({"op": op, "id": number, **fields})
        except BaseException:
            self._waiting.pop(number, None)
            raise
        return future

    async def request(self, op: str, **fields: Any) -> Message:
        """Asks the parent and waits for its reply (which may be an error reply)."""
        return await asyncio.wrap_future(self._request(op, fields))

    def request_sync(self, op: str, timeout: float | None = None, **fields: Any) -> Message:
        """The same for other threads than the one that reads."""
        return self._request(op, fields).result(timeout)

    def reply(self, request_id: int | None, **fields: Any) -> None:
        """Answers a request of the parent; does nothing for one-way messages (id None)."""
        if request_id is not None:
            self.send({"op": "reply", "id": request_id, **fields})

    def reply_error(self, request_id: int | None, exc: BaseException, status: str = "uncaught-error") -> None:
        """Answers with the fields of ``distributed.core.error_message``."""
        from distributed.core import error_message

        self.reply(request_id, **error_message(exc, status=status))

    def ready(self, **fields: Any) -> None:
        """Tells the parent that this child can work."""
        from distributed.versions import get_versions

        self.send(
            {
                "op": "ready",
                "pid": os.getpid(),
                "executable": sys.executable,
                "versions": get_versions(),
                **fields,
            }
        )

    # the end

    def close(self) -> None:
        """Closes the socket; waiting requests fail with :class:`BridgeClosed`."""
        with self._lock:
            if self.closed:
                return
            self._flush()
            self.closed = True
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(self._sock)
                self._loop.remove_writer(self._sock)
            self._sock.close()
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if future.set_running_or_notify_cancel():
                future.set_exception(BridgeClosed("the parent is gone"))
        if self._on_closed is not None:
            self._on_closed()


_PR_SET_PDEATHSIG = 1


def prepare_child(grace: float = 5.0) -> None:
    """Ties this process to its parent, and makes its output readable line by line.

    On Linux the kernel kills the child when the parent dies, even while a task holds the GIL.
    Elsewhere, and for a parent that only closed its end, a thread waits for the hang-up of the
    socket and ends the process ``grace`` seconds later if it is still there.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)
    end_with_parent()
    thread = threading.Thread(target=_watch_parent, args=(grace,), name="dask-ts-parent-watch", daemon=True)
    thread.start()


def end_with_parent() -> None:
    """Has the kernel end this process when its parent dies (Linux); Ctrl-C is the parent's matter."""
    faulthandler.enable()
    # Ctrl-C in a terminal reaches the whole process group; the parent decides when to end
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        try:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        except (OSError, AttributeError):
            pass
    parent = os.environ.pop("DASK_TS_PARENT_PID", None)
    if parent is not None and sys.platform != "win32" and int(parent) != os.getppid():
        os._exit(1)


def _watch_parent(grace: float) -> None:
    poll = select.poll()
    poll.register(BRIDGE_FD, getattr(select, "POLLRDHUP", 0))
    hang_up = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)
    while True:
        for _, events in poll.poll():
            if events & hang_up:
                threading.Event().wait(grace)
                os._exit(1)
            if events & select.POLLNVAL:
                return  # the bridge closed it itself
