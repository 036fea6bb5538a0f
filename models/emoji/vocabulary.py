"""The animals, background colours and counts of scenes, and the captions that name them.

The 45 animals in `TRAINED` are the prompt set of DDPO (Black et al., 2023), on which AlignProp (Prabhudesai et al.,
2023) trains too; the six in `HELD_OUT` are AlignProp's. The checkpoint is trained on all 51 animals, as Stable
Diffusion is; alignment prompts and the aesthetic reward's training data show the 45 only.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Animal:
    """An animal with its English name and plural, and the emoji that draws it."""

    name: str
    plural: str
    glyph: str


# Each animal has one glyph, its face where Unicode has one, because large features remain visible at 64 pixels. The
# mouse is a face and the rat a body, and the beetle is the ladybird, so that no two animals look alike.
TRAINED: tuple[Animal, ...] = (
    Animal("cat", "cats", "🐱"),
    Animal("dog", "dogs", "🐶"),
    Animal("horse", "horses", "🐴"),
    Animal("monkey", "monkeys", "🐵"),
    Animal("rabbit", "rabbits", "🐰"),
    Animal("zebra", "zebras", "🦓"),
    Animal("spider", "spiders", "🕷"),
    Animal("bird", "birds", "🐦"),
    Animal("sheep", "sheep", "🐑"),
    Animal("deer", "deer", "🦌"),
    Animal("cow", "cows", "🐮"),
    Animal("goat", "goats", "🐐"),
    Animal("lion", "lions", "🦁"),
    Animal("tiger", "tigers", "🐯"),
    Animal("bear", "bears", "🐻"),
    Animal("raccoon", "raccoons", "🦝"),
    Animal("fox", "foxes", "🦊"),
    Animal("wolf", "wolves", "🐺"),
    Animal("lizard", "lizards", "🦎"),
    Animal("beetle", "beetles", "🐞"),
    Animal("ant", "ants", "🐜"),
    Animal("butterfly", "butterflies", "🦋"),
    Animal("fish", "fish", "🐠"),
    Animal("shark", "sharks", "🦈"),
    Animal("whale", "whales", "🐳"),
    Animal("dolphin", "dolphins", "🐬"),
    Animal("squirrel", "squirrels", "🐿"),
    Animal("mouse", "mice", "🐭"),
    Animal("rat", "rats", "🐀"),
    Animal("snake", "snakes", "🐍"),
    Animal("turtle", "turtles", "🐢"),
    Animal("frog", "frogs", "🐸"),
    Animal("chicken", "chickens", "🐔"),
    Animal("duck", "ducks", "🦆"),
    Animal("goose", "geese", "🪿"),
    Animal("bee", "bees", "🐝"),
    Animal("pig", "pigs", "🐷"),
    Animal("turkey", "turkeys", "🦃"),
    Animal("fly", "flies", "🪰"),
    Animal("llama", "llamas", "🦙"),
    Animal("camel", "camels", "🐫"),
    Animal("bat", "bats", "🦇"),
    Animal("gorilla", "gorillas", "🦍"),
    Animal("hedgehog", "hedgehogs", "🦔"),
    Animal("kangaroo", "kangaroos", "🦘"),
)
HELD_OUT: tuple[Animal, ...] = (
    Animal("snail", "snails", "🐌"),
    Animal("hippopotamus", "hippopotamuses", "🦛"),
    Animal("cheetah", "cheetahs", "🐆"),  # the leopard, because Unicode has no cheetah
    Animal("crocodile", "crocodiles", "🐊"),
    Animal("lobster", "lobsters", "🦞"),
    Animal("octopus", "octopuses", "🐙"),
)
ANIMALS: tuple[Animal, ...] = TRAINED + HELD_OUT

# sRGB, 0 to 255. The colours are easy to tell apart and not fully saturated, so that a reward for colourful images can
# be raised.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (200, 60, 60),
    "orange": (232, 150, 70),
    "yellow": (236, 212, 96),
    "green": (88, 158, 84),
    "teal": (56, 150, 148),
    "blue": (70, 110, 200),
    "purple": (128, 78, 168),
    "pink": (240, 172, 192),
    "brown": (128, 92, 68),
    "grey": (140, 140, 140),
    "white": (240, 240, 240),
    "black": (38, 38, 42),
}
COUNTS = ("one", "two", "three", "four")


def with_article(noun: str) -> str:
    """The noun with its indefinite article: `a cat`, `an ant`."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def caption(animal: Animal, count: int = 1, colour: str | None = None) -> str:
    """The caption of a scene: `a cat`, `two mice on an orange background`. `count` is 1 to 4."""
    subject = with_article(animal.name) if count == 1 else f"{COUNTS[count - 1]} {animal.plural}"
    return subject if colour is None else f"{subject} on {with_article(colour)} background"
