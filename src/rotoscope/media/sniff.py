"""What a file is, by its first bytes. Its name and a declared content type are ignored: anybody can write anything."""

from pathlib import Path
from typing import Literal

from rotoscope.errors import InvalidInput

__all__ = [
    "EXTENSIONS",
    "HEAD_BYTES",
    "WantedKind",
    "check_head",
    "content_type_of",
    "content_type_of_name",
    "extension_of",
    "file_content_type",
    "foreign_format",
    "is_image",
    "is_video",
]

HEAD_BYTES = 512
"""So many first bytes of a file are enough for every format that is known here."""

WantedKind = Literal["image", "still", "video", "audio", "visual", "mask"]
"""What a file must be: `visual` and `mask` are a picture or a video, `still` is a picture, or a video whose first frame
is used."""

_EXTENSIONS = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "video/mp4": ".mp4",
    "video/quicktime": ".mov",
    "video/webm": ".webm",
    "audio/wav": ".wav",
    "audio/mpeg": ".mp3",
    "audio/mp4": ".m4a",
    "application/json": ".json",
}

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"ID3", "audio/mpeg"),
)

_FOREIGN_SIGNATURES = (
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"\x00\x00\x01\x00", "ICO"),
    (b"8BPS", "Photoshop"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"FLV\x01", "FLV"),
    (b"OggS", "Ogg"),
    (b"fLaC", "FLAC"),
    (b"\x0b\x77", "AC-3"),
    (b"\x7f\xfe\x80\x01", "DTS"),
    (b"ADIF", "AAC"),
    (b"#!AMR", "AMR"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media"),
    (b"\x00\x00\x01\xba", "MPEG-PS"),
    (b"\x00\x00\x01\xb3", "MPEG video without a container"),
    (b"\x00\x00\x00\x01\x67", "H.264 without a container"),
    (b"\x00\x00\x00\x01\x40\x01", "HEVC without a container"),
    (b".RMF", "RealMedia"),
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01", "MXF"),
    (b"YUV4MPEG2 ", "Y4M"),
    (b"DKIF", "IVF"),
    (b"caff\x00\x01", "CAF"),
    (b".snd", "AU"),
    (b"wvpk", "WavPack"),
    (b"MAC ", "Monkey's Audio"),
    (b"MThd", "MIDI"),
    (b"RF64", "RF64"),
    (b"riff\x2e\x91\xcf\x11", "Wave64"),
)
_FOREIGN_RIFF_FORMS = {b"RIFFAVI ": "AVI", b"FORMAIFF": "AIFF", b"FORMAIFC": "AIFF", b"FORM8SVX": "8SVX"}
_TRANSPORT_SYNC, _TRANSPORT_PACKET = 0x47, 188
_TRANSPORTS = {0: "MPEG-TS", 4: "M2TS"}  # by the bytes before each packet: M2TS has its time of arrival there

_FOREIGN_PICTURES = (
    (b"\x00\x00\x02\x00", "CUR"),
    (b"icns", "ICNS"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"gimp xcf", "XCF"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
    (b"SIMPLE  =", "FITS"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"II\xbc\x01", "JPEG XR"),
    (b"BPG\xfb", "BPG"),
    (b"FLIF", "FLIF"),
    (b"\x8aMNG\r\n\x1a\n", "MNG"),
    (b"\x8bJNG\r\n\x1a\n", "JNG"),
    (b"/* XPM */", "XPM"),
    (b"\x01\xda\x00\x01", "SGI"),
    (b"\x01\xda\x01\x01", "SGI"),
    (b"\x59\xa6\x6a\x95", "Sun raster"),
    (b"\xd7\xcd\xc6\x9a", "WMF"),
    (b"\x0a\x05\x01\x08", "PCX"),
    (b"AT&TFORM", "DjVu"),
    (b"%!PS-Adobe", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"FUJIFILMCCD-RAW", "Fujifilm raw"),
    (b"IIU\x00", "Panasonic raw"),
    (b"IIRO", "Olympus raw"),
    (b"IIRS", "Olympus raw"),
    (b"FOVb", "Sigma raw"),
)

_NETPBM = {
    b"P1": "PBM", b"P4": "PBM", b"P2": "PGM", b"P5": "PGM", b"P3": "PPM", b"P6": "PPM", b"P7": "PAM",
    b"Pf": "PFM", b"PF": "PFM",
}  # fmt: skip

_FOREIGN_BRANDS = {
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"heic": "HEIC",
    b"heix": "HEIC",
    b"heim": "HEIC",
    b"heis": "HEIC",
    b"hevc": "HEIC",
    b"hevx": "HEIC",
    b"mif1": "HEIC",
    b"msf1": "HEIC",
    b"crx ": "Canon raw",
}

_AUDIO_BRANDS = (b"M4A ", b"M4B ")
_OLD_QUICKTIME = (b"moov", b"wide", b"mdat", b"free", b"skip", b"pnot")
_EBML = b"\x1a\x45\xdf\xa3"
_EBML_HEADER = 64  # the document type stands within the first bytes of the header


def content_type_of(head: bytes) -> str | None:
    """The content type of a file, if it is one that is accepted here.

    Args:
        head: the first bytes of the file; `HEAD_BYTES` are enough, fewer than 12 too few.

    Returns:
        One of image/png, image/jpeg, image/webp, image/gif, video/mp4, video/quicktime, video/webm, audio/wav,
        audio/mpeg and audio/mp4; None for anything else. It is what the file claims to be: only decoding
        it proves that.
    """
    for opening, content_type in _SIGNATURES:
        if head.startswith(opening):
            return content_type
    if head.startswith(b"RIFF"):
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav"}.get(head[8:12])
    if head.startswith(_EBML):
        return "video/webm" if b"webm" in head[:_EBML_HEADER] else None
    return _iso_media_type(head) or ("audio/mpeg" if _is_mp3_frame(head) else None)


def file_content_type(path: Path) -> str | None:
    """The content type of a file, as `content_type_of` gives it.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as opened:
        return content_type_of(opened.read(HEAD_BYTES))


def foreign_format(head: bytes) -> str | None:
    """The name of a media format that is not accepted, such as "TIFF"; None for one that is not known here."""
    opened = next(
        (name for opening, name in (*_FOREIGN_SIGNATURES, *_FOREIGN_PICTURES) if head.startswith(opening)), None
    )
    return opened or _short_signature_format(head) or _container_format(head)


def _short_signature_format(head: bytes) -> str | None:
    """The name of a picture format whose signature alone is too short to be sure."""
    if head[:2] in _NETPBM and head[2:3] in (b" ", b"\t", b"\r", b"\n", b"#"):
        return _NETPBM[head[:2]]
    if head.startswith(b"BM") and not any(head[6:10]):
        return "BMP"
    return "SVG" if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") and b"<svg" in head else None


def _container_format(head: bytes) -> str | None:
    """The name of a format whose signature other formats share."""
    if head[4:8] == b"ftyp":
        return _FOREIGN_BRANDS.get(head[8:12])
    if head.startswith(_EBML):
        return None if b"webm" in head[:_EBML_HEADER] else "Matroska"
    return _FOREIGN_RIFF_FORMS.get(head[:4] + head[8:12]) or _transport_stream_format(head) or _raw_sound_format(head)


def check_head(head: bytes, kind: WantedKind) -> str:
    """The content type of a file that may be a medium of the kind, before more of it is read.

    Args:
        head: the first bytes of the file; `HEAD_BYTES` are enough.
        kind: what it must be.

    Raises:
        InvalidInput: `unsupported` for media of another kind or format, `not_media` for anything else.
    """
    content_type = content_type_of(head)
    # Many tools write sound alone under the brand of a video; whether it has pictures is known once it is open.
    if content_type is not None and any(content_type.startswith(f"{one}/") for one in _ACCEPTED_TYPES[kind]):
        return content_type
    wanted, hint = _KIND_HINTS[kind]
    foreign = foreign_format(head)
    if content_type is not None:
        found = {"image": "a picture", "video": "a video", "audio": "a sound"}.get(content_type.partition("/")[0])
        message = f"{wanted} is needed, and this file is {found or 'something else'}."
    elif foreign is not None:
        message = f"Files of the format {foreign} are not read."
    else:
        none = "neither a picture nor a film" if kind in ("visual", "mask") else f"not {wanted.lower()}"
        raise InvalidInput(f"This is {none}.", code="not_media", hint=hint)
    raise InvalidInput(message, code="unsupported", hint=hint)


_ACCEPTED_TYPES = {
    "image": ("image",),
    "still": ("image", "video"),
    "visual": ("image", "video"),
    "mask": ("image", "video"),
    "video": ("video",),
    "audio": ("audio", "video"),
}
_PICTURE_FORMATS, _VIDEO_FORMATS = "PNG, JPEG, WEBP or GIF", "MP4, MOV or WEBM"
_KIND_HINTS = {
    "image": ("A picture", f"Give a {_PICTURE_FORMATS} picture."),
    "still": ("A picture", f"Give a {_PICTURE_FORMATS} picture."),
    "visual": ("A picture or a video", f"Give a {_PICTURE_FORMATS} picture, or a {_VIDEO_FORMATS} video."),
    "mask": ("A picture or a video", f"Give a {_PICTURE_FORMATS} picture, or a {_VIDEO_FORMATS} video."),
    "video": ("A video", f"Give an {_VIDEO_FORMATS} video."),
    "audio": ("A sound", "Give an MP3, M4A or WAV sound."),
}


EXTENSIONS = (*_EXTENSIONS.values(), ".bin")
"""Every extension that `extension_of` gives."""


def extension_of(content_type: str) -> str:
    """The file name extension of a content type, with its dot; ".bin" for an unknown one."""
    return _EXTENSIONS.get(content_type, ".bin")


def content_type_of_name(name: str) -> str:
    """The content type that the extension of a name stands for; `application/octet-stream` for an unknown one."""
    wanted = name[name.rfind(".") :] if "." in name else ""
    return next((kind for kind, extension in _EXTENSIONS.items() if extension == wanted), "application/octet-stream")


def is_image(content_type: str | None) -> bool:
    """Whether it is an accepted picture format."""
    return content_type in _EXTENSIONS and str(content_type).startswith("image/")


def is_video(content_type: str | None) -> bool:
    """Whether it is an accepted video format."""
    return content_type in _EXTENSIONS and str(content_type).startswith("video/")


def _iso_media_type(head: bytes) -> str | None:
    """The type of a file made of ISO boxes: a length of four bytes, then a name of four letters."""
    if head[4:8] in _OLD_QUICKTIME:
        return "video/quicktime"
    brand = head[8:12]
    if head[4:8] != b"ftyp" or len(brand) < len(b"isom") or brand in _FOREIGN_BRANDS:
        return None
    if brand == b"qt  ":
        return "video/quicktime"
    return "audio/mp4" if brand in _AUDIO_BRANDS else "video/mp4"


def _transport_stream_format(head: bytes) -> str | None:
    """MPEG-TS or M2TS: packets of equal length that begin with the same byte; two of them are no coincidence."""
    for before, name in _TRANSPORTS.items():
        places = range(before, min(len(head), 3 * (before + _TRANSPORT_PACKET)), before + _TRANSPORT_PACKET)
        if len(places) > 1 and all(head[place] == _TRANSPORT_SYNC for place in places):
            return name
    return None


def _raw_sound_format(head: bytes) -> str | None:
    """Sound without a container: AAC frames (ADTS) and MPEG audio layer II, which begin with sync bits."""
    if len(head) < 7 or head[0] != 0xFF:  # noqa: PLR2004 - the header's size
        return None
    rate, length = head[2] >> 2 & 15, (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    if head[1] & 0xF6 == 0xF0 and rate <= 12 and length >= 7:  # noqa: PLR2004 - layer 0, a rate and a size that exist
        return "AAC"
    return "MP2" if head[1] & 0xFE == 0xFC and head[2] >> 4 not in {0, 15} else None  # noqa: PLR2004 - 15 is reserved


def _is_mp3_frame(head: bytes) -> bool:
    """Whether the bytes open with an MPEG audio layer III frame header without reserved values."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:  # noqa: PLR2004 - the header's size and sync bits
        return False
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    return version != 1 and layer == 1 and bitrate not in {0, 15} and rate != 3  # noqa: PLR2004 - 3 is reserved
