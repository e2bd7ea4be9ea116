"""How a round ended, in words for the owner of the site: what was decided, why, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.adapt.rounds import Round

STAYS = "the model in force stays"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`colour`: passed, refused or unjudged."""

    colour: str
    decision: str
    sentence: str
    advice: str
    because: str = ""


ACCEPTED = Outcome(
    "passed",
    "a new model",
    "A better model was learned, and is now the one in force.",
    "Give the nodes the bundle of this round; they check its signature before they use it. The next round begins from "
    "this model.",
)
HARMLESS = Outcome(
    "passed",
    "a new model",
    "A new model was learned that does no harm, and is now the one in force.",
    "The site's file asks for no more (gate.purpose: refresh). Whether it is better was not asked.",
)
REFUSED = Outcome(
    "refused",
    "refused",
    f"The new model is not better, so {STAYS}.",
    "Nothing has to be done: nodes keep what they have, and the next round learns from more crops. When the same "
    "figure refuses several rounds, look at the pairs below: wrong ones come from wrong links or from look-alikes.",
)
UNJUDGED = Outcome(
    "unjudged",
    "not judged",
    f"It could not be said whether the new model is better, so {STAYS}.",
    "Wait: each day brings more passages to judge by. They come faster with more of the hours held out "
    "(keep.held_out), more crops a day (the nodes' collection), and with all links of the site in its file.",
)
ENDED = {  # by the stage that ended the round
    "choose": Outcome(
        "unjudged",
        "nothing to learn from",
        f"No crops have come that may be learned from, so {STAYS}.",
        "See whether the nodes keep crops and reach the store: their state and `edge-app upload` say so. Passages of "
        "held-out hours, and those drawn to judge by, are never learned from.",
    ),
    "cluster": Outcome(
        "unjudged",
        "nothing learned",
        f"These crops teach nothing, so {STAYS}.",
        "Crops stay, and the next round has more of them. Little can be learned while cameras do not see the same "
        "vehicles: see that links and their times are those of the site.",
    ),
    "export": Outcome(
        "refused",
        "not exported",
        f"The new model is better, but no file of it keeps what it can, so {STAYS}.",
        "Allow a larger precision in the site's file (precision: auto tries all that there are).",
    ),
}
ENDED["train"] = ENDED["cluster"]
GIVEN_UP = Outcome("unjudged", "given up", f"This round was given up, and {STAYS}.", "Nothing has to be done.")
OVERTAKEN = Outcome(
    "unjudged",
    "given up",
    "This round was broken off, and another process has decided a later one since: what that one decided stands.",
    "Nothing has to be done: the next round here begins from what was decided there, and knows these crops too. What "
    "this one had come to is below.",
)


def outcome_of(one: Round) -> Outcome:
    """Of a round that has gone through its stages."""
    verdict = one.done.get("judge", {})
    if one.overtaken:
        found, because = OVERTAKEN, one.reason
    elif not one.reason:
        found = HARMLESS if verdict.get("purpose") == "refresh" else ACCEPTED
        because = str(verdict.get("sentence", ""))
    else:
        judged = REFUSED if verdict.get("decision") == "refuse" else UNJUDGED
        last = list(one.done)[-1] if one.done else ""
        found, because = judged if last == "judge" else ENDED.get(last, GIVEN_UP), one.reason
    because = because[:1].upper() + because[1:]
    return Outcome(found.colour, found.decision, found.sentence, found.advice, because)
