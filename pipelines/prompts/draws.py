"""Draw one text, or every text, that a tree of choices.py can become. Imports no torch; reads no file itself."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, permutations

from ..errors import RequestError
from ..requests import MAX_PROMPT
from .choices import Assign, Choice, Name, Node, Nodes, Options, Use, parse

MAX_DEPTH = 16  # names and variables inside names and variables
MAX_CHOICES = 1_000  # made for one prompt
MAX_VISITS = 60_000  # of parts of a text, while its combinations are counted up
MAX_VARIABLES = 50  # set by one text
CUT = "\0"  # between the texts of a request, which share their variables


@dataclass(frozen=True)
class Scope:
    """What holds at a place. open: the names and variables that it lies in. variables: what is set."""

    open: tuple[str, ...] = ()
    variables: Mapping[str, Nodes] = field(default_factory=dict)

    def within(self, name: str) -> Scope:
        """Enter a name or variable. Raises RequestError when it is open already."""
        if name in self.open:
            chain = " -> ".join([*self.open[self.open.index(name):], name])
            raise RequestError(f"Prompt: the wildcard __{name}__ names itself ({chain[:200]}).", "prompt")
        if len(self.open) == MAX_DEPTH:
            raise _too_deep()
        return replace(self, open=(*self.open, name))

    def having(self, variables: Mapping[str, Nodes]) -> Scope:
        """Set further variables."""
        return replace(self, variables={**self.variables, **variables}) if variables else self

    def value(self, use: Use) -> Nodes:
        """What a variable stands for: its value, its default, or itself as it was typed."""
        found = self.variables.get(use.name, use.default)
        return (use.typed,) if found is None else found


Find = Callable[[str], Options]  # the options of a name, () for one that nothing knows


def draw(texts: Sequence[str], find: Find, chance: random.Random) -> tuple[str, ...]:
    """Draw what several texts become; a variable that one of them sets holds in the others.

    Raises RequestError for a name or variable that holds itself, and for a text that becomes too long.
    """
    nodes = _together(texts)
    if all(isinstance(node, str) for node in nodes):
        return tuple(texts)
    drawer = _Drawer(find, chance)
    try:
        drawer.write(nodes, Scope())
    except RecursionError:
        raise _too_deep() from None
    return _parted("".join(drawer.written), texts)


def combine(texts: Sequence[str], find: Find, limit: int) -> tuple[tuple[str, ...], ...]:
    """Every combination of what several texts can become together, the last choice changing fastest."""
    nodes = _together(texts)
    if all(isinstance(node, str) for node in nodes):
        return (tuple(texts),)
    made = _Combinations(find).all(nodes, Scope())
    try:
        return tuple(_parted(text, texts) for text in islice(made, limit))
    except RecursionError:
        raise _too_deep() from None


def _enter(name: Name, find: Find, scope: Scope) -> tuple[Options, Scope]:
    """The options of a name, and what holds inside it. Raises RequestError when it is open already."""
    inner = scope.within(name.name).having({each: (value,) for each, value in name.variables})
    return find(name.name), inner


def _made_of(choice: Choice, find: Find, scope: Scope) -> tuple[Options, Scope]:
    """What a choice is made of: `{2$$__name__}` draws among the lines of the file, so that none comes twice."""
    match choice.options:
        case ((_, (Name() as name,)),) if (choice.low, choice.high) != (1, 1):
            options, inner = _enter(name, find, scope)
            if options:
                return options, inner
    return choice.options, scope


class _Drawer:
    """Writes one prompt, choosing as it goes."""

    def __init__(self, find: Find, chance: random.Random):
        self._find, self._chance = find, chance
        self.written: list[str] = []
        self._length = self._choices = 0

    def write(self, nodes: Nodes, scope: Scope) -> None:
        scope = self._assigned(nodes, scope)
        for node in nodes:
            match node:
                case str():
                    self._put(node)
                case Choice():
                    self._write_some(node, scope)
                case Name():
                    options, inner = _enter(node, self._find, scope)
                    if options:
                        self.write(self._drawn(options, 1)[0], inner)
                    else:
                        self._put(node.typed)
                case Use():
                    self._count()
                    self.write(scope.value(node), scope.within(node.typed))

    def _write_some(self, choice: Choice, scope: Scope) -> None:
        options, scope = _made_of(choice, self._find, scope)
        low, high = choice.bounds(len(options))
        count = low if low == high else self._chance.randint(low, high)
        for number, option in enumerate(self._drawn(options, count)):
            if number:
                self._put(choice.separator)
            self.write(option, scope)

    def _assigned(self, nodes: Nodes, scope: Scope) -> Scope:
        """Set the variables of a text; those that are to be drawn at once, to what is drawn now."""
        for node in _assignments(nodes):
            if not (node.keeps and node.name in scope.variables):
                scope = scope.having({node.name: (self._aside(node.value, scope),) if node.at_once else node.value})
        return scope

    def _aside(self, nodes: Nodes, scope: Scope) -> str:
        """Write into a text of its own."""
        begun, length = len(self.written), self._length
        self.write(nodes, scope)
        text = "".join(self.written[begun:])
        del self.written[begun:]
        self._length = length
        return text

    def _put(self, text: str) -> None:
        self._length = 0 if text == CUT else self._length + len(text)
        if self._length > MAX_PROMPT:
            raise _too_long()
        self.written.append(text)

    def _count(self) -> None:
        self._choices += 1
        if self._choices > MAX_CHOICES:
            raise RequestError(f"Prompt: its wildcards ask for more than {MAX_CHOICES} choices.", "prompt")

    def _drawn(self, options: Options, count: int) -> list[Nodes]:
        """Draw options by their weights, each at most once."""
        left, drawn = list(options), []
        for _ in range(count):
            self._count()
            drawn.append(left.pop(self._place(left))[1])
        return drawn

    def _place(self, options: Sequence[tuple[float, Nodes]]) -> int:
        place = self._chance.random() * sum(weight for weight, _ in options)
        for number, (weight, _) in enumerate(options):
            place -= weight
            if place < 0:
                return number
        return len(options) - 1


class _Combinations:
    """Every text that nodes can become, counted up like an odometer."""

    def __init__(self, find: Find):
        self._find = find
        self._visits = 0

    def all(self, nodes: Nodes, scope: Scope) -> Iterator[str]:
        if not any(isinstance(node, Assign) for node in nodes):
            return self._counted_up(nodes, scope)
        return self._with_variables(nodes, scope)

    def _with_variables(self, nodes: Nodes, scope: Scope) -> Iterator[str]:
        for inner in self._scopes(_assignments(nodes), scope):
            yield from self._counted_up(nodes, inner)

    def _scopes(self, assignments: Sequence[Assign], scope: Scope) -> Iterator[Scope]:
        """Every way of setting variables: those that are drawn at once have each of their values in turn."""
        if not assignments:
            yield scope
            return
        first, rest = assignments[0], assignments[1:]
        values: Iterator[Nodes] = ((text,) for text in self.all(first.value, scope)) if first.at_once else iter(
            [first.value])
        for value in [scope.variables[first.name]] if first.keeps and first.name in scope.variables else values:
            yield from self._scopes(rest, scope.having({first.name: value}))

    def _counted_up(self, nodes: Nodes, scope: Scope) -> Iterator[str]:
        # No recursion over the nodes, which would be as deep as the text is long.
        if not nodes:
            yield ""
            return
        texts: list[str] = []
        turning = [self._each(nodes[0], scope)]
        while turning:
            text = next(turning[-1], None)
            if text is None:
                turning.pop()
                del texts[-1:]
            elif len(turning) == len(nodes):
                yield _short_enough("".join(texts) + text)
            else:
                texts.append(text)
                turning.append(self._each(nodes[len(turning)], scope))

    def _each(self, node: Node, scope: Scope) -> Iterator[str]:
        self._visits += 1
        if self._visits > MAX_VISITS:
            raise RequestError(f"Prompt: its wildcards ask for more than {MAX_VISITS} choices.", "prompt")
        match node:
            case str():
                yield node
            case Choice():
                yield from self._some(node, scope)
            case Name():
                options, inner = _enter(node, self._find, scope)
                if not options:
                    yield node.typed
                for _, option in options:
                    yield from self.all(option, inner)
            case Use():
                yield from self.all(scope.value(node), scope.within(node.typed))
            case Assign():
                yield ""

    def _some(self, choice: Choice, scope: Scope) -> Iterator[str]:
        options, scope = _made_of(choice, self._find, scope)
        low, high = choice.bounds(len(options))
        for count in range(low, high + 1):
            for drawn in permutations([option for _, option in options], count):
                yield from self.all(_separated(drawn, choice.separator), scope)


def _separated(options: Sequence[Nodes], separator: str) -> Nodes:
    """Join options to one text."""
    nodes: list = []
    for number, option in enumerate(options):
        nodes += [separator, *option] if number else option
    return tuple(nodes)


def _assignments(nodes: Nodes) -> list[Assign]:
    found = [node for node in nodes if isinstance(node, Assign)]
    if len(found) > MAX_VARIABLES:
        raise RequestError(f"Prompt: it sets {len(found)} variables. At most {MAX_VARIABLES}.", "prompt")
    return found


def _together(texts: Sequence[str]) -> Nodes:
    """Parse several texts as one, so that they share their variables."""
    nodes: list = []
    for number, text in enumerate(texts):
        nodes += [CUT] if number else []
        nodes += parse(text.replace(CUT, ""))
    return tuple(nodes)


def _parted(text: str, typed: Sequence[str]) -> tuple[str, ...]:
    """Part what was written together; a text that sets variables leaves no blanks at its ends."""
    parts = [part.strip() if "${" in before else part for part, before in zip(text.split(CUT), typed, strict=True)]
    return tuple(map(_short_enough, parts)) if len(parts) > 1 else tuple(parts)


def _short_enough(text: str) -> str:
    # Texts of a request that are still together have a limit each; what parts them looks at each.
    if max(map(len, text.split(CUT))) > MAX_PROMPT:
        raise _too_long()
    return text


def _too_long() -> RequestError:
    return RequestError(f"Prompt: its wildcards make it longer than {MAX_PROMPT} characters.", "prompt")


def _too_deep() -> RequestError:
    return RequestError(f"Prompt: wildcards inside wildcards are more than {MAX_DEPTH} deep.", "prompt")
