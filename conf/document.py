"""Turns untrusted text into an element tree, or says where it is broken."""

from lxml import etree

from conf.schemas import check_schema
from schema.errors import ErrorDomain, XmlDetailError, XmlError

MAX_BYTES = 8 * 1024 * 1024
"""The longest document that is looked at; libvirt's clients can send 4 MiB."""

_CONTEXT_COLUMNS = 79
NUL = b"\0"


def parse_document(
    xml: bytes | str, *, name: str = "document", root: str | None = None, validate: bool = False
) -> etree._Element:
    """The root element of a document.

    `name` stands for the file in error messages (`(domain_definition)`). Raises XmlDetailError when the text is not
    well-formed, XmlError when it is too long, holds a DOCTYPE, a NUL byte or broken UTF-8, or has another root;
    with `validate` also XmlInvalidSchema and OperationUnsupported, as `check_schema` does.
    """
    data = xml.encode("utf-8", "surrogatepass") if isinstance(xml, str) else bytes(xml)
    if len(data) > MAX_BYTES:
        raise XmlError(f"document of {len(data)} bytes is longer than {MAX_BYTES} bytes")
    if NUL in data:
        raise XmlError(f"document has a NUL byte in line {_line_of(data, data.index(NUL))}")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise XmlError(f"document is not UTF-8 in line {_line_of(data, exc.start)}") from exc
    # a DOCTYPE can stand only before the root element; looking for it first keeps libxml2 from reading its entities
    if b"<!DOCTYPE" in data and _has_doctype(data):
        raise XmlError("document type declarations are not allowed")
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_blank_text=True,
        recover=False,
    )
    try:
        node = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as exc:
        raise _syntax_error(exc, parser, data, name) from exc
    if node.getroottree().docinfo.internalDTD is not None:
        raise XmlError("document type declarations are not allowed")
    if root is not None and node.tag != root:
        raise XmlError(
            f"expecting root element of '{root}', not '{etree.QName(node).localname}'", domain=ErrorDomain.XML
        )
    if validate:
        check_schema(node)
    return node


def _line_of(data: bytes, place: int) -> int:
    return data.count(b"\n", 0, place) + 1


def _has_doctype(data: bytes) -> bool:
    """Is there a DOCTYPE before the root element? Comments and instructions there may hold anything."""
    place = 0
    while (place := data.find(b"<", place)) >= 0:
        if data.startswith(b"<?", place):
            place = data.find(b"?>", place)
        elif data.startswith(b"<!--", place):
            place = data.find(b"-->", place + 4)
        else:
            return data.startswith(b"<!DOCTYPE", place)
        if place < 0:
            return False
    return False


def _syntax_error(exc: etree.XMLSyntaxError, parser: etree.XMLParser, data: bytes, name: str) -> XmlDetailError:
    """libvirt's report of a syntax error: file, line, message, the line itself, and a mark below it."""
    # the first error of this document; the exception's own log holds those of earlier ones too
    entry = next(iter(parser.error_log), None)
    message = entry.message if entry is not None else str(exc.msg)
    line, column = (entry.line, entry.column) if entry is not None else (exc.lineno or 1, (exc.offset or 0) + 1)
    lines = data.split(b"\n")
    context = lines[line - 1] if 0 < line <= len(lines) else b""
    start = max(0, column - 1 - _CONTEXT_COLUMNS)
    shown = context[start : start + _CONTEXT_COLUMNS].decode("utf-8", "replace")
    mark = "-" * max(0, column - 1 - start) + "^"
    text = f"({name}):{line}: {message.strip()}\n{shown or '(null)'}\n{mark}"
    return XmlDetailError(text, domain=ErrorDomain.NONE)  # that of the document
