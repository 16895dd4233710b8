"""From an icon's name to the concept that it shows and words of its style.

`cat-24-filled`, `cat-02`, `outline-cat` and `cat-duotone` all show "cat". What is stripped as a style is kept as one.
"""
import re

# Always a style at the end of an icon's name.
SURE = {
    "outline": "outline", "outlined": "outline", "linear": "outline", "stroke": "outline", "o": "outline",
    "filled": "filled", "fill": "filled", "solid": "filled", "bulk": "duotone", "duotone": "duotone", "twotone": "duotone",
    "duo": "duotone", "thin": "thin", "rounded": "", "baseline": "filled", "monochrome": "",
}
# A style only where the set declares it, or has the name without it too ("traffic-light" is none).
MAYBE = {
    "line": "outline", "light": "thin", "bold": "bold", "regular": "outline", "sharp": "", "round": "", "broken": "broken",
    "flat": "flat", "remix": "", "negative": "negative", "expressive": "", "active": "", "strong": "bold", "small": "",
    "alt": "", "alternate": "", "variant": "", "simple": "", "24px": "", "xs": "", "sm": "", "md": "", "lg": "", "print": "",
    "pop": "", "loop": "", "large": "", "big": "",
}
PREFIXES = {"baseline": "filled", "outline": "outline", "round": "", "sharp": "", "twotone": "duotone", "bxs": "filled", "bx": "",
            "md": "", "ios": "", "android": ""}
NUMBER = re.compile(r"^(\d+|x\d+|\d+px|\d+x|alt\d+)$")
ORDINALS = {"one", "two", "three", "four", "five"}
COUNTED = {"number", "numeric", "digit", "hour", "dice", "die", "level", "clock", "counter", "step", "looks", "filter", "signal", "top",
           "rotate", "hours", "beaufort", "index", "version", "count", "square", "circle", "hexagon", "forward", "replay", "timer"}
SKIN = re.compile(r"-(medium-light|medium-dark|light|medium|dark)(-skin-tone)?$|-tone-?\d|-skin-tone")
SPELLING = {"calender": "calendar", "grey": "gray", "fotball": "football"}


def skin_tone(name: str, names: set[str]) -> bool:
    """Whether an emoji repeats another of its set with a tone of skin."""
    if "skin-tone" in name or re.search(r"-tone-?\d", name):
        return True
    cut = SKIN.search(name)
    return bool(cut) and name[:cut.start()] in names


def clean(name: str, names: set[str], suffixes: list[str], prefixes: list[str], emoji: bool,
          ordinals: bool = False, categories: list[str] = ()) -> tuple[str, list[str]]:
    """The concept as words and the list of style words; `names` are all names of the set."""
    style: list[str] = []
    words = name.lower().split("-")
    for c in sorted(categories, key=len, reverse=True):
        head = [w.lower() for w in re.findall(r"[A-Z][a-z]+|[A-Z]+(?![a-z])", c)]
        if head and len(words) > len(head) and words[:len(head)] == head:
            words = words[len(head):]
            break
    for s in sorted(suffixes, key=len, reverse=True):
        tail = s.split("-")
        if s and len(words) > len(tail) and words[-len(tail):] == tail:
            style += [SURE.get(w, MAYBE.get(w, "")) for w in tail]
            words = words[:-len(tail)]
            break
    for p in prefixes:
        if p and len(words) > 1 and words[0] == p:
            style.append(PREFIXES.get(p, ""))
            words = words[1:]
            break
    while len(words) > 1:
        last, base = words[-1], "-".join(words[:-1])
        if NUMBER.match(last) and words[-2] not in COUNTED:
            pass
        elif emoji and last not in ("filled", "small"):
            break
        elif last in SURE:
            style.append(SURE[last])
        elif ordinals and last in ORDINALS:
            pass
        elif last in MAYBE and (base in names or any(f"{base}-{s}" in names for s in ("outline", "fill", "filled", "solid", "duotone", "2"))):
            style.append(MAYBE[last])
        else:
            break
        words = words[:-1]
    glued = re.match(r"^([a-z]{4,})\d$", words[-1])
    if glued and not emoji:
        words[-1] = glued.group(1)
    if emoji:
        glued = re.match(r"^([a-z]{4,})\d$", words[-1])
        words[-1] = glued.group(1) if glued else words[-1]
    words = [SPELLING.get(w, w) for w in words if w]
    return " ".join(words).replace("_", " ").strip(), sorted({s for s in style if s})


IRREGULAR = {"mice": "mouse", "geese": "goose", "wolves": "wolf", "leaves": "leaf", "knives": "knife", "scarves": "scarf"}


def singular(word: str) -> str:
    """A plain singular, good enough to find a word in its plural."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses", "oes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        return word[:-1]
    return word
