"""Zarr by URL: object storage (s3://bucket/key) and web servers, through fsspec.

Credentials and endpoint come from where AWS's own tools look for them (AWS_ACCESS_KEY_ID,
AWS_PROFILE, AWS_ENDPOINT_URL, ...); without credentials the bucket is read as the public does.
"""

from __future__ import annotations

from typing import Any

import zarr

from emsr.errors import InputError
from emsr.volumes.extras import needed
from emsr.volumes.volume import StoredVolume
from emsr.volumes.zarrs import open_node

_CONNECT_SECONDS, _ATTEMPTS = 10, 3
_MARKS = (("zarr.json", 3), (".zarray", 2), (".zgroup", 2))


def open_url(url: str, level: int) -> StoredVolume:
    """An OME-Zarr image or a Zarr array at an s3, http or https URL, read chunk by chunk.

    InputError for a URL that cannot be reached, may not be read, or holds no Zarr.
    """
    scheme = url.partition("://")[0].lower()
    if scheme not in ("s3", "http", "https"):
        raise InputError(f"{url}: expected a Zarr at s3://, http:// or https://, or a local path")
    fsspec = needed("fsspec", "cloud", f"{url}: reading by URL")
    options, reader = s3_options(url) if scheme == "s3" else (_http_options(url), "")
    try:
        files, root = fsspec.url_to_fs(url, **options)
        return _volume(files, root, url, level)
    except InputError:
        raise
    except Exception as error:  # whatever server, network and broken metadata make them raise
        raise InputError(f"{url}: {reason(error, reader)}") from error


def s3_options(url: str) -> tuple[dict[str, Any], str]:
    """Arguments of s3fs, and as whom it asks."""
    needed("s3fs", "cloud", f"{url}: S3")
    session = needed("botocore.session", "cloud", f"{url}: S3").Session()
    anonymous = session.get_credentials() is None
    options = {
        "anon": anonymous,
        "config_kwargs": {
            "connect_timeout": _CONNECT_SECONDS,
            "retries": {"max_attempts": _ATTEMPTS, "mode": "standard"},
        },
        "skip_instance_cache": True,  # another time, other credentials
        "max_concurrency": 1,  # with more, the size is asked for before everything that is read
    }
    return options, "without credentials (none are set)" if anonymous else "with your credentials"


def _http_options(url: str) -> dict[str, Any]:
    aiohttp = needed("aiohttp", "cloud", f"{url}: reading by HTTP")
    timeout = aiohttp.ClientTimeout(total=None, connect=_CONNECT_SECONDS, sock_read=60)
    return {"client_kwargs": {"timeout": timeout}, "skip_instance_cache": True}


def _volume(files: Any, root: str, url: str, level: int) -> StoredVolume:
    """The volume at ``root`` of a file system.

    Servers that do not list a folder deny what is not there. Where that was seen, denied files are
    taken as absent while the metadata are looked for; a chunk that is denied is an error.
    """
    wrapper = needed("fsspec.implementations.asyn_wrapper", "cloud", url).AsyncFileSystemWrapper
    # the wrapper leaves connections to fsspec, which closes them; zarr's own way would not
    store = zarr.storage.FsspecStore(wrapper(files, asynchronous=True), read_only=True, path=root)
    zarr_format, denied = _zarr_format(files, root)
    usual = store.allowed_exceptions
    store.allowed_exceptions = (*usual, *denied)
    try:
        return open_node(zarr.open(store, mode="r", zarr_format=zarr_format), url, level)
    finally:
        store.allowed_exceptions = usual


def _zarr_format(files: Any, root: str) -> tuple[Any, list[type[Exception]]]:
    """2 or 3, and how the server denies what is not there; one question at a time."""
    denied: list[Exception] = []
    for mark, zarr_format in _MARKS:
        try:
            files.cat_file(f"{root.rstrip('/')}/{mark}")
        except FileNotFoundError:
            continue
        except Exception as error:
            if not _is_denied(error):
                raise
            denied.append(error)
        else:
            return zarr_format, [type(error) for error in denied]
    raise denied[0] if denied else FileNotFoundError(root)


def _is_denied(error: Exception) -> bool:
    return isinstance(error, PermissionError) or getattr(error, "status", None) in (401, 403)


def reason(error: Exception, reader: str) -> str:
    """What a server or the network said, and what to do; ``reader`` is as whom S3 was asked."""
    said = " ".join(str(error).split()) or type(error).__name__
    if _is_denied(error):
        remedy = "the URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_PROFILE"
        return f"access denied {reader or 'by the server'}: check {remedy if reader else 'the URL'}"
    if isinstance(error, FileNotFoundError):
        return (
            "there is no Zarr array or group (only Zarr is read by URL): check the bucket, the "
            "path and, for a server of your own, AWS_ENDPOINT_URL"
        )
    own = " (and AWS_ENDPOINT_URL, for a server of your own)" if reader else ""
    return f"cannot be read ({said}): check the URL and the network{own}"
