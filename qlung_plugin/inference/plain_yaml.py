"""Reading the YAML of a model without making anything that it names.

HyperPyYAML makes and calls whatever the tags of a file name. Here the file is
parsed into a tree, and the tree becomes the plain data of
:mod:`qlung_plugin.inference.architecture`, if every tag in it is ``!new:`` of a
component that a model may have. Else it is refused, with the line.

Authors
 * qlung_plugin contributors
"""

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from qlung_plugin.inference.architecture import COMPONENTS, DEEPEST, MOST_VALUES
from qlung_plugin.inference.safe_files import read_text
from qlung_plugin.runs.configuration import parse_yaml

STANDARD = "tag:yaml.org,2002:"
SCALARS = {f"{STANDARD}{name}" for name in ("bool", "float", "int", "null")}
TEXT = f"{STANDARD}str"
LARGEST_YAML = 2**17  # bytes: the parser is slow
MOST_BRACKETS = 1_000  # of which the parser's time is the square, if they open
LONGEST_LINE = 120  # characters of a line, in a message


def read_architecture(path, folder):
    """The architecture that a YAML file describes.

    Arguments
    ---------
    path : str or Path
        Such as the ``inference.yaml`` of a run.
    folder : str or Path
        See :func:`qlung_plugin.inference.safe_files.check_file`.

    Returns
    -------
    dict
        Plain data; see :mod:`qlung_plugin.inference.architecture`. What the
        YAML has anchors for is shared.

    Raises
    ------
    ValueError
        If the file is no YAML, or a line of it names anything but a component
        that a model may have.

    Example
    -------
    >>> path = getfixture("tmp_path") / "inference.yaml"
    >>> _ = path.write_text("labels: [a, b]\\nx: !apply:os.system [ls]\\n")
    >>> try:
    ...     read_architecture(path, path.parent)
    ... except ValueError as error:
    ...     print(str(error).removeprefix(str(path)))
    , line 2, names code that is no component of qlung_plugin: "x: !apply:os.system [ls]". It is run with trust=True (on the command line: --trust, of a recipe: --trust True), which lets the file do whatever it says
    """
    return parse_architecture(read_text(path, folder, LARGEST_YAML), path)


def parse_architecture(text, origin):
    """The architecture that a YAML describes; see :func:`read_architecture`.

    Arguments
    ---------
    text : str
        The YAML.
    origin : str or Path
        Where it comes from, for the message.

    Returns
    -------
    dict
        Plain data.
    """
    return _Reader(origin, text).read()


def read_nodes(path, folder):
    """The nodes of a YAML of keys, with tags and comments.

    Nothing is made of them.

    Arguments
    ---------
    path, folder
        See :func:`qlung_plugin.inference.safe_files.check_file`.

    Returns
    -------
    ruamel.yaml.comments.CommentedMap
        Nodes by key.

    Raises
    ------
    ValueError
        If the file is no YAML of keys, or has too many values, those counted
        each time that an alias repeats.

    Example
    -------
    >>> path = getfixture("tmp_path") / "hyperparams.yaml"
    >>> _ = path.write_text("loss: !new:anything.Loss {weights: [1, 2]}")
    >>> read_nodes(path, path.parent)["loss"]["weights"]
    [1, 2]
    """
    text, yaml = read_text(path, folder, LARGEST_YAML), YAML()
    root = _compose(yaml, text, path)
    if _size(root, {}) > MOST_VALUES:
        raise ValueError(f"{path}: too many values, which aliases repeat")
    return parse_yaml(text, path)


def _compose(yaml, text, path):
    """The tree of a YAML, in which an alias is the node that it stands for."""
    if text.count("[") + text.count("{") > MOST_BRACKETS:
        raise ValueError(f"{path} has too many brackets")
    try:
        return yaml.compose(text)
    except YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply") from error


def _size(node, known):
    """How many values a tree has without aliases; a long text is several."""
    if isinstance(node, ScalarNode) or node is None:
        return 1 + len(getattr(node, "value", "")) // LONGEST_LINE
    if id(node) not in known:
        known[id(node)] = MOST_VALUES + 1  # if it is found within itself
        parts = node.value
        if isinstance(node, MappingNode):
            parts = [part for pair in parts for part in pair]
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]


class _Reader:
    """Turns the tree of one file into plain data."""

    def __init__(self, path, text):
        self.path, self.text = path, text
        self.yaml = YAML(typ="safe", pure=True)
        self.places = {}  # of objects, by the identity of their nodes
        self.budget = MOST_VALUES

    def read(self):
        root = _compose(self.yaml, self.text, self.path)
        if not isinstance(root, MappingNode):
            raise ValueError(f"{self.path} holds no keys with values")
        if str(root.tag) != f"{STANDARD}map":
            raise self.refusal(root)
        return self.mapping(root, ())

    def refusal(self, node):
        """What to raise of a node that names code."""
        return ValueError(
            f"{self.where(node)}, names code that is no component of"
            f' qlung_plugin: "{self.line(node)}". It is run with trust=True (on'
            " the command line: --trust, of a recipe: --trust True), which lets"
            " the file do whatever it says"
        )

    def where(self, node):
        number = self.text.count("\n", 0, node.start_mark.index) + 1
        return f"{self.path}, line {number}"

    def line(self, node):
        """The node's line, without what might control a terminal."""
        index = node.start_mark.index
        start = self.text.rfind("\n", 0, index) + 1
        line = self.text[start:].split("\n", 1)[0]
        if index - start > LONGEST_LINE // 2:
            line = f"... {line[index - start :]}"
        line = line.strip()[:LONGEST_LINE]
        return "".join(c if c.isprintable() else "?" for c in line)

    def value(self, node, place):
        self.budget -= 1
        if self.budget < 0 or len(place) > DEEPEST:
            raise ValueError(
                f"{self.where(node)}: too many values, or nested too deeply"
            )
        tag = str(node.tag)
        if tag.startswith("!new:"):
            return self.object(node, tag.removeprefix("!new:"), place)
        if isinstance(node, MappingNode) and tag == f"{STANDARD}map":
            return self.mapping(node, place)
        if isinstance(node, SequenceNode) and tag == f"{STANDARD}seq":
            return self.sequence(node, place)
        if isinstance(node, ScalarNode) and tag == TEXT:
            return node.value
        if isinstance(node, ScalarNode) and tag in SCALARS:
            try:
                return self.yaml.constructor.construct_object(node)
            except (YAMLError, ValueError, LookupError) as error:
                raise ValueError(
                    f"{self.where(node)}: {tag.removeprefix(STANDARD)} that is"
                    " none"
                ) from error
        raise self.refusal(node)

    def object(self, node, name, place):
        if name not in COMPONENTS:
            raise self.refusal(node)
        if id(node) in self.places:
            return {"reference": self.places[id(node)]}
        made = {"class": name}
        if isinstance(node, MappingNode):
            made["arguments"] = self.mapping(node, place)
        elif isinstance(node, SequenceNode):
            made["arguments"] = self.sequence(node, place)
        elif node.value:
            raise self.refusal(node)
        self.places[id(node)] = ".".join(map(str, place))
        return made

    def mapping(self, node, place):
        values = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode) or str(key.tag) != TEXT:
                raise self.refusal(key)
            if key.value in values:
                raise ValueError(
                    f"{self.where(key)}: the key {key.value!r} is there twice"
                )
            values[key.value] = self.value(value, (*place, key.value))
        return values

    def sequence(self, node, place):
        return [
            self.value(part, (*place, position))
            for position, part in enumerate(node.value)
        ]
