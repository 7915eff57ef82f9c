"""AUTOMATIC1111's prompt language as a tree: `(x)`, `(x:1.3)`, `[x]`, `[a:b:0.5]`, `[a|b]`, AND, BREAK.

Any text parses. `arrange` first gives every bracket its partner, so that the grammar only ever sees balanced ones: a
stray closing bracket is literal text and an opening one that is never closed holds to the end, as in AUTOMATIC1111.
"""

from __future__ import annotations

import re
from functools import lru_cache

from lark import Lark, Token, Transformer

from .crossing import flat, is_odd
from .tree import Alternate, Break, Node, Part, Prompt, Scheduled, Text, Weighted

MAX_DEPTH = 32  # brackets inside brackets; deeper ones are literal text
MAX_BRACKETS = 2_000  # a text with more is taken literally as a whole
MAX_PARTS = 16  # joined by AND; each costs a model call at every step
STRONGER, WEAKER = 1.1, 1 / 1.1

# Of bounded length: an endless row of digits would be tried from every one of them.
_DIGITS = r"[+-]?(?:D{1,12}(?:\.D{0,20})?|\.D{1,20})(?:[eE][+-]?D{1,4})?"
NUMBER = _DIGITS.replace("D", r"\d")
STEP = _DIGITS.replace("D", "[0-9]")  # other scripts' digits are text there, as in AUTOMATIC1111

# A number is a weight only right before its bracket, which the lookahead says: LALR(1) alone would see it too late.
GRAMMAR = rf"""
start: part (_AND part)*
part: _any* SHARE?
_any: TEXT | ESCAPE | BREAK | COLON | BAR | round | square | unclosed
round: _ROUND _any* WEIGHT? _ROUND_END
square: _SQUARE _any* WHEN? _SQUARE_END
unclosed: _ROUND _any* _NEVER    -> unclosed_round
        | _SQUARE _any* _NEVER   -> unclosed_square

_AND: /\bAND\b/
BREAK: /\bBREAK\b/
ESCAPE: /\\(?:(?!:\s*{NUMBER}\s*\))[\s\S])?/
WEIGHT.2: /:\s*(?:{NUMBER}|[+-]?(?:nan|inf))\s*(?=\))/i
WHEN.2: /:\s*{STEP}\s*(?=\])/
SHARE.2: /:\s*{NUMBER}\s*(?=AND\b|\Z)/
TEXT: /(?:(?!\b(?:AND|BREAK)\b)[^\\()\[\]:|])+/
COLON: ":"
BAR: "|"
_ROUND: "("
_ROUND_END: ")"
_SQUARE: "["
_SQUARE_END: "]"
%declare _NEVER
"""
PARTNER = {"_ROUND_END": "_ROUND", "_SQUARE_END": "_SQUARE"}


@lru_cache(maxsize=8)  # a prompt that is being typed is looked at from several sides
def parse(text: str, *, composable: bool = True) -> Prompt:
    """Parse a prompt; never raises. composable: whether AND joins prompts (in a negative prompt it is a word)."""
    brackets = sum(map(text.count, "()[]"))
    if brackets > MAX_BRACKETS:
        return Prompt((Part((Text(text, text),)),),
                      (f"The prompt has {brackets} brackets, so it was taken literally. At most {MAX_BRACKETS}.",))
    parser = _parser()
    lexed = list(parser.lex(text))
    tokens, notices, unbalanced = arrange(lexed, composable)
    running = parser.parse_interactive()
    for token in tokens:
        running.feed_token(token)
    parts = _Nodes().transform(running.feed_eof())
    if not notices:  # else text is cut, and read by the tree alone
        parts = [flat(part, typed) if is_odd(part.children) else part
                 for part, typed in zip(parts, _split(lexed, composable), strict=True)]
    return Prompt(tuple(parts), notices, unbalanced)


def without_tags(text: str) -> tuple[str, tuple[str, ...]]:
    """Cut `<kind:...>` tags out of a prompt. Returns what is left and the tags."""
    tags = tuple(match[0] for match in TAGS.finditer(text))
    return (TAGS.sub("", text), tags) if tags else (text, ())


TAGS = re.compile(r"<[a-zA-Z_]\w*:[^<>\n]*>")


def arrange(tokens: list[Token], composable: bool) -> tuple[list[Token], tuple[str, ...], tuple[int, ...]]:
    """Give every bracket its partner: retype what has none as TEXT and put _NEVER where a group ends unclosed.

    Returns the tokens for the parser, notices, and the places of brackets without a partner.
    """
    parts = _split(tokens, composable)
    arranged: list[Token] = []
    unbalanced: list[int] = []
    deep = False
    for number, part in enumerate(parts):
        if number:
            arranged.append(Token("_AND", "AND"))
        balanced, alone, too_deep = _balance(part, composable)
        arranged += balanced
        unbalanced += alone
        deep |= too_deep
    notices = [f"Brackets more than {MAX_DEPTH} deep were taken as text."] if deep else []
    if len(parts) == MAX_PARTS and sum(token.type == "_AND" for token in tokens) >= MAX_PARTS:
        notices.append(f"AND joins at most {MAX_PARTS} prompts; further ones were taken as text.")
    return arranged, tuple(notices), tuple(sorted(unbalanced))


def _split(tokens: list[Token], composable: bool) -> list[list[Token]]:
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token.type == "_AND" and composable and len(parts) < MAX_PARTS:
            parts.append([])
        else:
            parts[-1].append(_text(token) if token.type == "_AND" else token)
    return parts


def _balance(tokens: list[Token], shares: bool) -> tuple[list[Token], list[int], bool]:
    """Balance one part. Returns its tokens, the places of lone brackets, and whether any lay too deep."""
    done: list[Token] = []
    waiting: list[Token] = []  # opening brackets; those beyond MAX_DEPTH are text, but keep their partners
    count = {"_ROUND": 0, "_SQUARE": 0}
    alone: list[int] = []
    deep = False
    share = tokens.pop() if shares and tokens and tokens[-1].type == "SHARE" else None

    def never() -> None:
        opening = waiting.pop()
        count[opening.type] -= 1
        alone.append(opening.start_pos)
        if len(waiting) < MAX_DEPTH:
            _literal_number(done)
            done.append(Token("_NEVER", ""))

    for token in tokens:
        kind = token.type
        if kind in count:
            waiting.append(token)
            count[kind] += 1
            fits = len(waiting) <= MAX_DEPTH
            deep |= not fits
            _add(done, token if fits else _text(token))
        elif kind in PARTNER:
            if not count[PARTNER[kind]]:
                alone.append(token.start_pos)
                _literal_number(done)
                _add(done, _text(token))
                continue
            while waiting[-1].type != PARTNER[kind]:
                never()
            waiting.pop()
            count[PARTNER[kind]] -= 1
            fits = len(waiting) < MAX_DEPTH
            if not fits:
                _literal_number(done)
            _add(done, token if fits else _text(token))
        elif kind == "SHARE" or (kind in ("COLON", "BAR") and not waiting):
            _add(done, _text(token))
        else:
            _add(done, token)
    while waiting:
        never()
    return [*done, share] if share else done, alone, deep


def _add(tokens: list[Token], token: Token) -> None:
    """Append, joining neighbouring text."""
    if token.type == "TEXT" and tokens and tokens[-1].type == "TEXT":
        tokens[-1] = Token("TEXT", tokens[-1] + token)
    else:
        tokens.append(token)


def _text(token: Token) -> Token:
    return Token("TEXT", str(token))


def _literal_number(tokens: list[Token]) -> None:
    """A weight or a step whose bracket turned out to be none is text."""
    if tokens and tokens[-1].type in ("WEIGHT", "WHEN"):
        _add(tokens, _text(tokens.pop()))


@lru_cache(maxsize=1)
def _parser() -> Lark:
    return Lark(GRAMMAR, parser="lalr", lexer="basic")


class _Nodes(Transformer):
    """From lark's tree to ours."""

    def TEXT(self, token: Token) -> Text:
        return Text(str(token), str(token))

    COLON = BAR = TEXT

    def ESCAPE(self, token: Token) -> Text:
        return Text(token[1:], str(token))

    def BREAK(self, token: Token) -> Break:
        return Break()

    def start(self, parts: list[Part]) -> list[Part]:
        return parts

    def part(self, children: list) -> Part:
        share = _pop_number(children, "SHARE")
        return Part(tuple(children), float(share) if share else 1.0)

    def round(self, children: list) -> Weighted:
        typed = _pop_number(children, "WEIGHT")
        closing = f":{typed})" if typed else ")"
        return Weighted(tuple(children), float(typed) if typed else STRONGER, "(", closing)

    def square(self, children: list) -> Node:
        when = _pop_number(children, "WHEN")
        if when is not None:
            texts = _split_at(children, ":")
            if len(texts) <= 2:
                return Scheduled(texts[0] if len(texts) == 2 else (), texts[-1], when)
            children = [*children, Text(f":{when}", f":{when}")]
        options = _split_at(children, "|")
        if len(options) > 1:
            return Alternate(options)
        return Weighted(tuple(children), WEAKER, "[", "]")

    def unclosed_round(self, children: list) -> Weighted:
        return Weighted(tuple(children), STRONGER, "(", "")

    def unclosed_square(self, children: list) -> Weighted:
        return Weighted(tuple(children), WEAKER, "[", "")


def _pop_number(children: list, kind: str) -> str | None:
    if not children or getattr(children[-1], "type", None) != kind:
        return None
    return str(children.pop())[1:].strip()


def _split_at(children: list, mark: str) -> tuple[tuple[Node, ...], ...]:
    groups: list[list[Node]] = [[]]
    for child in children:
        if isinstance(child, Text) and child.raw == mark:
            groups.append([])
        else:
            groups[-1].append(child)
    return tuple(map(tuple, groups))
