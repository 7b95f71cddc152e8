"""Checking files of strangers that ``torch.load`` is to read.

They are archives with a pickle and the memory of tensors. What is checked is
what is loaded: an archive that is read from its end here, and as an older
format from its start there, is refused, as is one in which members overlap.

Authors
 * qlung_plugin contributors
"""

import os
import pickletools
import struct
import zipfile

from qlung_plugin.inference.safe_files import LARGEST_WEIGHTS, check_file
from qlung_plugin.utils.state_dicts import DAMAGED

LARGEST_PICKLE = 2**22  # bytes, of names and shapes of tensors

# What the pickle of a state dict calls, beside torch's storages. torch.load
# refuses to run anything else that matters, but would make, say, a bytearray of
# any length.
PICKLED = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2"}
OTHER_CALLS = {"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"}

# Of an archive: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
LOCAL = b"PK\3\4"  # what a member starts with, and so the file
HEADER = struct.Struct("<4s5H3I2H")  # of a member, before name and extra field
ENTRY = 46  # bytes in the directory, beside name, extra field and comment
END = struct.Struct("<4s4H2IH")
DESCRIBED = 0x08  # the flag of a member that sizes follow
DESCRIPTOR = 16  # bytes of these
LARGEST_DIRECTORY = 2**22  # bytes


def check_state_file(path, folder):
    """Checks a file that ``torch.save`` wrote before it is read.

    Arguments
    ---------
    path, folder
        See :func:`check_file`, also for errors.

    Raises
    ------
    ValueError
        If it is no such file, holds more than its size, being compressed, makes
        anything but tensors, or is another file to another reader.

    Example
    -------
    >>> import torch
    >>> folder = getfixture("tmp_path")
    >>> torch.save({"weight": torch.zeros(2)}, folder / "a.ckpt")
    >>> check_state_file(folder / "a.ckpt", folder)
    """
    size = check_file(path, folder, LARGEST_WEIGHTS)
    try:
        with open(path, "rb") as file:
            directory, length = _directory(file)
            archive = zipfile.ZipFile(file)
            members = archive.infolist()
            content = sum(info.file_size for info in members)
            if content > size:
                raise ValueError(
                    f"it claims to hold {content} bytes in a file of {size}"
                )
            _check_layout(file, archive, directory, length)
            for info in members:
                if info.filename.lower().endswith(".pkl"):
                    _check_pickle(archive, info)
    except (*DAMAGED, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is not a readable state dict: {error}"
        ) from error


def _directory(file):
    """Where the directory of an archive starts, and its length."""
    # torch.load takes what does not start like this for another format.
    if file.read(len(LOCAL)) != LOCAL:
        raise ValueError("it does not start as an archive does")
    file.seek(-END.size, os.SEEK_END)
    signature, *_, length, start, comment = END.unpack(file.read())
    if signature != b"PK\5\6" or comment:
        raise ValueError("it does not end as an archive of torch does")
    if length > LARGEST_DIRECTORY:
        raise ValueError(f"its directory has {length} bytes")
    return start, length


def _check_layout(file, archive, directory, length):
    """Checks that members follow one another, with nothing between them.

    Else another reader than Python's may find others.
    """
    place = 0
    for info in sorted(archive.infolist(), key=lambda i: i.header_offset):
        file.seek(info.header_offset)
        signature, *_, name, extra = HEADER.unpack(file.read(HEADER.size))
        if info.header_offset != place or signature != LOCAL:
            raise ValueError(f"its {info.filename[:100]!r} is out of place")
        place += HEADER.size + name + extra + info.compress_size
        if info.flag_bits & DESCRIBED:
            place += DESCRIPTOR
    entries = sum(
        ENTRY + len(i.filename.encode()) + len(i.extra) + len(i.comment)
        for i in archive.infolist()
    )
    if (place, entries) != (archive.start_dir, length) or place != directory:
        raise ValueError("its directory is out of place")


def _check_pickle(archive, info):
    """Checks what a pickle in an archive would call; nothing is called."""
    if info.file_size > LARGEST_PICKLE:
        raise ValueError(f"its {info.filename} has {info.file_size} bytes")
    for opcode, argument, _ in pickletools.genops(archive.read(info)):
        if opcode.name == "GLOBAL":
            module, _, name = argument.partition(" ")
            if argument not in PICKLED and not (
                module == "torch" and name.endswith("Storage")
            ):
                raise ValueError(f"it makes {argument[:100]!r}")
        elif opcode.name in OTHER_CALLS:
            raise ValueError(f"it has the instruction {opcode.name}")
