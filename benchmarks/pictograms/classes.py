"""The classes of Pictograms, and the explicit rule that labels an icon by its name.

An icon belongs to a class when its name, without style words, holds one of the class's nouns and every
other word is allowed for that class: "bell ring" is a bell, "bell pepper" is none. A wrong label seen on a
contact sheet is corrected here, in the rule, never by hand.
"""

from __future__ import annotations

from dataclasses import dataclass

# Badges and states that leave the thing itself in the picture.
MODIFIERS = frozenset(
    "off slash plus minus add remove check checkmark x xmark alert exclamation dot disabled cancel dismiss on fast"
    " sparkle sparkles small big large left right up down new".split()
)


@dataclass(frozen=True)
class ClassRule:
    """One class: its name, its meaning, the words that make an icon one of it, and those that do not."""

    name: str
    definition: str
    polysemous: bool
    nouns: tuple[frozenset[str], ...]
    allowed: frozenset[str]
    banned: frozenset[str]

    def matches(self, thing: str) -> bool:
        """Whether an icon named ``thing`` (style words already gone) belongs to this class."""
        words = set(thing.split())
        named = frozenset().union(*(noun for noun in self.nouns if noun <= words))
        return bool(named) and words - named <= (self.allowed | MODIFIERS) - self.banned


def _rule(name: str, definition: str, nouns: str, allowed: str = "", banned: str = "", *,
          polysemous: bool = False) -> ClassRule:  # fmt: skip
    """``nouns`` are words, or words that belong together, with hyphens between them ("credit-card").

    ``banned`` are modifiers with which the name means something else: a "check box" is no box.
    """
    parts = tuple(frozenset(noun.split("-")) for noun in nouns.split())
    return ClassRule(name, definition, polysemous, parts, frozenset(allowed.split()), frozenset(banned.split()))


CLASSES = (
    _rule("bag", "a shopping bag", "bag handbag", "shopping shop hand full empty", polysemous=True),
    _rule("basket", "a shopping basket", "basket", "shopping shop full empty"),
    _rule("battery", "a battery", "battery",
          "full half empty low medium charging high charge quarter three vertical horizontal level one two mid"),
    _rule("bed", "a bed, a hotel", "bed",
          "double single hotel king queen bedroom sleep room pulse empty linen bunk patient medical"),
    _rule("bell", "a bell, a notification", "bell",
          "ring ringing notification notifications active alarm school alert"),
    _rule("boat", "a boat, a ship", "boat ship sailboat", "sail sailing ferry cargo directions"),
    _rule("bolt", "a lightning bolt", "bolt lightning thunderbolt lightningbolt",
          "electric electrical thunder flash energy", polysemous=True),
    _rule("book", "an open book", "book", "open closed reading pages page cover text education"),
    _rule("bookmark", "a bookmark", "bookmark", "simple ribbon saved"),
    _rule("box", "a box, a package", "box package parcel",
          "open closed delivery", "check checkmark x add plus minus", polysemous=True),
    _rule("briefcase", "a briefcase, work", "briefcase", "business work"),
    _rule("brush", "a paint brush", "brush paintbrush", "paint art painting artist", polysemous=True),
    _rule("bug", "a bug, an insect", "bug", "insect report", polysemous=True),
    _rule("building", "an office building", "building buildings office-building", "apartment city company modern",
          polysemous=True),
    _rule("bulb", "a light bulb", "bulb lightbulb", "light idea lamp electric", polysemous=True),
    _rule("bus", "a bus, transport", "bus",
          "school vehicle side front double decker shuttle transit public transport oncoming transportation"
          " directions mini"),
    _rule("cake", "a birthday cake", "cake cupcake", "birthday slice"),
    _rule("calendar", "a calendar", "calendar", "date day month week event"),
    _rule("camera", "a camera for photos", "camera",
          "photo digital reflex dslr retro photography compact enhance polaroid single lens"),
    _rule("car", "a car, an automobile", "car automobile",
          "vehicle side front sedan sport sports electric compact suv hatchback convertible estate profile"
          " directions racing oncoming taxi"),
    _rule("cart", "a shopping cart", "cart trolley", "shopping shop full empty"),
    _rule("chess", "a chess piece", "chess", "king queen rook knight pawn bishop piece figure game"),
    _rule("clipboard", "a clipboard", "clipboard", "text list data paste task note"),
    _rule("clock", "a clock, the time", "clock", "time circle hour wall three five four nine two"),
    _rule("cloud", "a cloud in the sky", "cloud", "weather cloudy", polysemous=True),
    _rule("coin", "a coin, money", "coin coins",
          "money dollar euro stack gold a b copper pound rupee yen bitcoin vertical"),
    _rule("compass", "a compass, a direction", "compass", "navigation explore location",
          polysemous=True),
    _rule("credit card", "a credit card", "creditcard credit-card payment-card bank-card", "payment bank"),
    _rule("cup", "a cup of coffee", "coffee mug teacup coffee-cup hot-cup tea-cup",
          "cup tea hot drink cafe paper togo", polysemous=True),
    _rule("database", "a database", "database", "storage data"),
    _rule("diamond", "a diamond, a gem", "diamond gem", "stone jewel", polysemous=True),
    _rule("dice", "dice, a game", "dice die", "five six four three two one multiple game d6"),
    _rule("envelope", "an envelope, a letter", "envelope mail email",
          "open letter message closed"),
    _rule("eye", "an eye", "eye", "view visible see open show", polysemous=True),
    _rule("film", "a film, a movie", "film movie", "strip roll video reel", polysemous=True),
    _rule("fire", "a fire, a flame", "fire flame", "hot", polysemous=True),
    _rule("flag", "a flag, a banner", "flag", "banner pennant triangle waving"),
    _rule("flask", "a laboratory flask", "flask beaker erlenmeyer",
          "science lab laboratory test chemistry conical vial florence bottom bottomed round"),
    _rule("folder", "a folder", "folder", "open closed"),
    _rule("fork", "a fork and a knife", "fork utensils cutlery restaurant",
          "knife spoon food dining plate and crossing cross beside silverware with", "left right up down",
          polysemous=True),
    _rule("gamepad", "a game controller", "gamepad controller joystick", "game console video",
          "left right up down"),
    _rule("gift", "a wrapped gift", "gift present", "box wrapped open holiday"),
    _rule("glasses", "reading glasses",
          "glasses eyeglasses eyeglass sunglasses spectacles", "reading sun eye emoji vr", polysemous=True),
    _rule("globe", "a globe, the earth", "globe", "world earth web", polysemous=True),
    _rule("hand", "an open hand", "hand", "raised stop raise palm back waving front wave", "left right up down",
          polysemous=True),
    _rule("headphones", "headphones for music", "headphones headphone headset", "music audio listening"),
    _rule("heart", "a heart, a like", "heart", "love favorite health like"),
    _rule("hourglass", "an hourglass", "hourglass", "half start end time empty full top bottom middle sand high low"),
    _rule("house", "a house, a home", "house home",
          "angle chimney roof family modern page door"),
    _rule("inbox", "an inbox, a tray", "inbox tray", ""),
    _rule("key", "a door key", "key", "door password vpn old skeleton security vertical",
          polysemous=True),
    _rule("keyboard", "a computer keyboard", "keyboard", "computer wireless device hardware", polysemous=True),
    _rule("laptop", "a laptop", "laptop", "computer device mac"),
    _rule("lock", "a padlock", "lock padlock", "closed security secure password", polysemous=True),
    _rule("luggage", "a suitcase", "luggage suitcase", "travel rolling baggage"),
    _rule("map", "a map", "map", "fold folded"),
    _rule("mask", "a theater mask", "mask masks", "face theater medical happy sad drama comedy carnival",
          polysemous=True),
    _rule("medal", "a medal, an award", "medal award", "first star gold military ribbon"),
    _rule("microphone", "a microphone", "microphone mic", "audio voice studio"),
    _rule("moon", "the moon at night", "moon", "crescent night stars star waxing waning"),
    _rule("mouse", "a computer mouse", "mouse",
          "computer device scroll wireless button wheel click middle lock bluetooth smart", polysemous=True),
    _rule("music note", "a musical note", "music-note musical-note musicnote", "beamed double quaver eighth quarter"),
    _rule("palette", "a painter's palette", "palette", "color paint art artist advanced", polysemous=True),
    _rule("paperclip", "a paper clip", "paperclip paper-clip attachment", "", polysemous=True),
    _rule("pencil", "a pencil", "pencil", "edit write draw single ai lead writing sketch box"),
    _rule("phone", "a telephone", "phone telephone", "call handset receiver"),
    _rule("pin", "a push pin", "pin thumbtack pushpin thumb-tack push-pin", "angle", polysemous=True),
    _rule("plane", "an airplane", "plane airplane aeroplane airplanemode",
          "flight departure takeoff landing fly travel arrival take land jet tilt mode active", polysemous=True),
    _rule("printer", "a printer", "printer print", ""),
    _rule("puzzle", "a puzzle piece", "puzzle jigsaw", "piece module edit heart star", polysemous=True),
    _rule("receipt", "a receipt, a bill", "receipt", "long text money dollar bill"),
    _rule("rocket", "a rocket, a launch", "rocket rocketship", "launch space ship startup takeoff"),
    _rule("scale", "a balance, a weight scale", "scale scales balance", "weight justice legal", polysemous=True),
    _rule("server", "a computer server", "server servers", "", polysemous=True),
    _rule("shield", "a shield", "shield", "security"),
    _rule("smile", "a smiling face", "smile smiley", "face happy beam wink slight laughing emoji mood slightly tongue"),
    _rule("speaker", "a loudspeaker", "speaker loudspeaker", "audio loud", polysemous=True),
    _rule("star", "a star, a favorite", "star", "half favorite rate rating shooting shine"),
    _rule("store", "a store, a shop", "store storefront shop", "", "two", polysemous=True),
    _rule("sun", "the sun", "sun sunny", "day weather bright"),
    _rule("tag", "a price tag", "tag", "price label sale", polysemous=True),
    _rule("target", "a target", "target bullseye",
          "arrow goal dart pointer with archery other ui account", polysemous=True),
    _rule("thermometer", "a thermometer", "thermometer temperature", "half full high low empty three quarter"),
    _rule("thumb", "a thumbs up", "thumb thumbs", ""),
    _rule("ticket", "a ticket", "ticket", "movie"),
    _rule("train", "a train", "train railway subway tram", "metro station transport rail light front",
          polysemous=True),
    _rule("trash", "a trash can", "trash bin garbage", "can full empty recycle rubbish"),
    _rule("tree", "a pine tree", "tree",
          "pine deciduous conifer evergreen nature forest plant christmas needleleaved", polysemous=True),
    _rule("trophy", "a trophy, an award", "trophy", "cup award star winner prize"),
    _rule("truck", "a truck", "truck lorry", "delivery fast shipping"),
    _rule("tv", "a television", "tv television", "old retro screen"),
    _rule("umbrella", "an umbrella, weather", "umbrella", "open rain beach weather closed"),
    _rule("video camera", "a video camera", "video camcorder videocamera", "camera recorder recording"),
    _rule("wallet", "a wallet", "wallet", "money card"),
    _rule("watch", "a watch, time", "watch smartwatch wristwatch", "wrist smart time",
          polysemous=True),
    _rule("wifi", "wifi, a wireless signal", "wifi", "signal"),
    _rule("wine glass", "a glass of wine", "wine cocktail martini", "glass drink bar"),
)  # fmt: skip


def class_of(thing: str) -> int | None:
    """The index in ``CLASSES`` of an icon named ``thing``, or None when it belongs to no class or to several."""
    matching = [label for label, rule in enumerate(CLASSES) if rule.matches(thing)]
    return matching[0] if len(matching) == 1 else None
