"""Gold files of made-up videos, in the shape in which ProactiveVideoQA publishes its annotations."""

import json


def answer(text, start, end, related_end=None, **more):
    related = [start, end if related_end is None else related_end]
    spans = {"related_timespan": related, "reply_timespan": [start, end]}
    return {"role": "assistant", "content": text, **more, **spans}


def item(id, *answers, duration=60.0, question="What is happening in the workshop?", video=None):
    return {
        "video": video or f"{id}.mp4",
        "question_id": id,
        "conversation": [{"role": "user", "content": question, "time": 0}],
        "answer": list(answers),
        "duration": duration,
    }


def write_gold(path, *items):
    path.write_text(json.dumps(items, indent=2))
    return path


def said(id, *replies, **more):
    """A line of predictions: (time, text) pairs."""
    turns = [{"role": "assistant", "content": text, "time": time} for time, text in replies]
    return json.dumps({"question_id": id, "model_response_list": turns, **more})


def write_lines(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return path
