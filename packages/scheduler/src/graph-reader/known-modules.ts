/** Names that need no Python to be believed. */

/** Modules of Python's library that are there on all its platforms, by their first part. */
export const PYTHON_MODULES: ReadonlySet<string> = new Set(
  `abc _abc array ast asyncio base64 binascii bisect _bisect builtins bz2 calendar cmath _codecs codecs collections
  _collections _collections_abc concurrent contextlib contextvars copy copyreg csv _csv ctypes dataclasses datetime
  _datetime decimal _decimal difflib email enum errno fnmatch fractions functools _functools gc genericpath glob gzip
  hashlib heapq _heapq hmac html http importlib inspect io _io ipaddress itertools json keyword linecache locale logging
  lzma math mimetypes multiprocessing ntpath numbers operator _operator os pathlib pickle _pickle pkgutil platform
  posixpath pprint queue _queue random _random re secrets select selectors shlex shutil signal _signal socket _socket
  sqlite3 ssl _ssl stat statistics _statistics string _string stringprep struct _struct subprocess sys tarfile tempfile
  textwrap _thread threading time timeit token tokenize traceback types typing unicodedata urllib uuid warnings weakref
  _weakref xml zipfile zlib zoneinfo`.split(/\s+/),
);

/** Modules of Dask and its own requirements that import nothing which may be missing. */
export const KNOWN_MODULES: ReadonlySet<string> = new Set([
  "cloudpickle",
  "cloudpickle.cloudpickle",
  "dask",
  "dask._expr",
  "dask._task_spec",
  "dask.base",
  "dask.config",
  "dask.core",
  "dask.delayed",
  "dask.highlevelgraph",
  "dask.utils",
  "distributed",
  "distributed.actor",
  "distributed.client",
  "distributed.utils",
  "distributed.worker",
  "posix",
  "toolz.functoolz",
  "toolz.itertoolz",
]);

/** What may be called: gives the same kind of object for all arguments that a pickler writes. `module\nname`. */
export const KNOWN_CALLS: ReadonlySet<string> = new Set(
  Object.entries({
    "dask._expr": "Expr._reconstruct",
    "dask._task_spec": "Alias DataNode Dict List Set Task TaskRef Tuple",
    "dask.highlevelgraph": "HighLevelGraph MaterializedLayer",
    "distributed.client": "Future SourceCode",
    builtins: "bytearray bytes complex range slice",
    functools: "partial",
    operator: "attrgetter itemgetter methodcaller",
    collections: "Counter OrderedDict defaultdict deque",
    datetime: "date datetime time timedelta timezone",
    decimal: "Decimal",
    fractions: "Fraction",
    pathlib: "Path PosixPath PurePath PurePosixPath",
    "pathlib._local": "Path PosixPath PurePath PurePosixPath",
    uuid: "UUID",
    "cloudpickle.cloudpickle":
      "_builtin_type _function_setstate _make_cell _make_empty_cell _make_function dynamic_subimport subimport",
  }).flatMap(([module, names]) => names.split(" ").map((name) => `${module}\n${name}`)),
);
