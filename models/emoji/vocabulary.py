"""What the scenes show and how captions say it: animals, background colours, counts.

The 45 animals are the prompt set of DDPO (Black et al., 2023) that AlignProp (Prabhudesai et al., 2023) trains on; the
six held-out ones are AlignProp's. The checkpoint sees all 51, as Stable Diffusion does; alignment prompts and the
aesthetic reward's training data hold the 45 only.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Animal:
    """One animal: its English name and plural, and the one emoji that draws it."""

    name: str
    plural: str
    glyph: str


# One glyph an animal, the face where there is one: large features survive 64 pixels. The mouse is a face and the rat
# a body, the beetle is the ladybird, so that no two look alike.
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
    Animal("cheetah", "cheetahs", "🐆"),  # Unicode's leopard: there is no cheetah
    Animal("crocodile", "crocodiles", "🐊"),
    Animal("lobster", "lobsters", "🦞"),
    Animal("octopus", "octopuses", "🐙"),
)
ANIMALS: tuple[Animal, ...] = TRAINED + HELD_OUT

# sRGB, 0 to 255. Clearly apart from one another, and short of full saturation: an alignment towards colourful images
# needs somewhere to go.
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
    """`a cat`, `an ant`."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def caption(animal: Animal, count: int = 1, colour: str | None = None) -> str:
    """`a cat`, `two mice on an orange background`; `count` is 1 to 4."""
    subject = with_article(animal.name) if count == 1 else f"{COUNTS[count - 1]} {animal.plural}"
    return subject if colour is None else f"{subject} on {with_article(colour)} background"
