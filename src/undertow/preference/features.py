r"""Surface features of a response, each as the share of its lines, sentences or words that show it.

A share keeps long and short responses apart from each other no more than it must: a presence would make
every concept a proxy of length. Patterns are RE2, run by Arrow; lexicons are phrases of one to four words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Unit = Literal["lines", "sentences", "words", "text"]


@dataclass(frozen=True, slots=True)
class Marked:
    """A feature that a regular expression shows."""

    name: str
    """Concept name."""
    text: str
    """Rest of the sentence after ``The response``."""
    regex: str
    """RE2; every match counts once."""
    unit: Unit = "sentences"
    """What matches are divided by; ``text``: whether there is one at all."""
    needs: str = ""
    """Only texts with this are searched; empty: all."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """A feature that phrases show: the share of sentences with one of them."""

    name: str
    """Concept name."""
    text: str
    """Rest of the sentence after ``The response``."""
    phrases: str
    """One to four words each, with commas between."""


def python_regex(pattern: str) -> str:
    r"""Write an RE2 expression as Python has it: ``\z`` and ``\x{…}``."""
    pattern = re.sub(r"\\x\{([0-9A-F]+)\}", lambda found: f"\\U{int(found[1], 16):08X}", pattern)
    return pattern.replace(r"\z", r"\Z")


_HEAD = r"(?i)\A[\s\"'“*#>_-]*"
_TAIL = r"[\s*_\"'”)]*\z"
_EMOJI = r"[\x{1F300}-\x{1FAFF}\x{2600}-\x{27BF}\x{1F000}-\x{1F2FF}]"

MARKED = (
    # --- layout
    Marked("bold", "has bold text", r"\*\*[^*\n]+\*\*|__[^_\n]+__", needs="**"),
    Marked("italic", "has italic text", r"(^|[\s(])\*[^*\s][^*\n]*\*([\s.,;:)!?]|$)", needs="*"),
    Marked("heading", "has headings", r"(?m)^#{1,6} \S", "lines", "#"),
    Marked("bold lead-in", "begins lines with a bold label", r"(?m)^[ \t\d.*+-]*\*\*[^*\n]+\*\*", "lines",
           "**"),
    Marked("bullet", "has bulleted items", r"(?m)^[ \t]*[-*•+–][ \t]+\S", "lines"),
    Marked("numbered item", "has numbered items", r"(?m)^[ \t]*\(?\d{1,3}[.):][ \t]+\S", "lines"),
    Marked("nested item", "has indented items", r"(?m)^[ \t]+([-*•+–]|\d{1,3}[.)])[ \t]+\S", "lines"),
    Marked("table", "has a table", r"(?m)^[ \t]*\|.*\|[ \t]*$", "lines", "|"),
    Marked("horizontal rule", "has horizontal rules", r"(?m)^[ \t]*(-{3,}|\*{3,}|_{3,}|={3,})[ \t]*$",
           "lines"),
    Marked("block quote", "has block quotes", r"(?m)^[ \t]*> \S", "lines", ">"),
    Marked("label line", "has lines that end with a colon", r"(?m):[*_ \t]*$", "lines", ":"),
    Marked("code block", "has code blocks", r"(?s)```.+?```", "lines", "```"),
    Marked("inline code", "has code in backticks", r"`[^`\n]+`", needs="`"),
    Marked("LaTeX", "has formulas in LaTeX",
           r"\$\$[^$]+\$\$|\$[^$\n]{0,80}[\\^_={}+][^$\n]{0,80}\$|\\[(\[]|\\(frac|sqrt|sum|int|cdot|times|"
           r"boxed|begin|text)\b"),
    Marked("link", "has a link or URL", r"(?i)\]\([^)\s]+\)|\bhttps?://[^\s)]+|\bwww\.[a-z0-9-]+\.[^\s)]+"),
    Marked("e-mail address", "has an e-mail address", r"[\w.+-]+@[\w-]+\.[a-zA-Z]{2,}", needs="@"),
    Marked("HTML", "has HTML tags", r"</?[a-z][a-z0-9]*( [^<>\n]*)?/?>", needs="<"),
    Marked("emoji", "has emoji", _EMOJI),
    # --- marks
    Marked("question", "asks questions", r"\?", needs="?"),
    Marked("exclamation", "exclaims", "!", needs="!"),
    Marked("parenthesis", "has asides in parentheses", r"\([A-Za-z][^()\n]{2,}\)", needs="("),
    Marked("quotation", "quotes", "\"[^\"\\n]{2,}\"|“[^”\\n]{2,}”"),
    Marked("dash", "has long dashes", "—| – ", needs=""),
    Marked("semicolon", "has semicolons", ";", needs=";"),
    Marked("ellipsis", "has ellipses", r"\.\.\.|…"),
    Marked("capitals", "has words in capitals", r"\b[A-Z]{3,}\b", "words"),
    Marked("digits", "has numbers", r"\d[\d.,]*", "words"),
    Marked("percentage", "gives percentages", r"\d ?%", needs="%"),
    Marked("year", "gives years", r"\b(1[5-9]\d\d|20\d\d)\b"),
    Marked("placeholder", "has placeholders in brackets", r"\[[A-Z][^\]\n]{1,30}\]", needs="["),
    Marked("other script", "has letters from outside Latin", r"[\p{Greek}\p{Cyrillic}\p{Han}\p{Arabic}"
           r"\p{Hebrew}\p{Hangul}\p{Hiragana}\p{Katakana}\p{Devanagari}\p{Thai}]+", "words"),
    # --- openings and closings
    Marked("opens with assent", "opens with assent",
           _HEAD + r"(certainly|sure|of course|absolutely|definitely|gladly|with pleasure|yes|okay|ok)\b",
           "text"),
    Marked("opens with praise", "opens by praising the question or the asker",
           _HEAD + r"((what|that'?s|that is|this is) (a|an) )?(really |very |such )*(great|good|excellent|"
           r"fantastic|wonderful|interesting|brilliant|insightful|thoughtful|amazing) "
           r"(question|point|idea|choice|topic|thought|observation)", "text"),
    Marked("opens with a refusal", "opens with a refusal",
           _HEAD + r"((i['’]?m|i am) (very |so |really )?(sorry|afraid)\b.{0,60}(can['’]?t|cannot|unable|not "
           r"able|won['’]?t)|(sorry, (but )?)?(i|we) (can['’]?t|cannot|can not|won['’]?t|am unable to|am not "
           r"able to|must decline))", "text"),
    Marked("opens with a heading", "opens with a heading or title", r"\A\s*(#{1,6} |\*\*[^*\n]+\*\*\s*\n)",
           "text"),
    Marked("ends with a question", "ends with a question", r"\?" + _TAIL, "text", "?"),
    Marked("ends with an exclamation", "ends with an exclamation", "!" + _TAIL, "text", "!"),
    Marked("ends cut off", "ends without a closing mark", r"[\p{L}\p{N},]\s*\z", "text"),
)  # fmt: skip

SPOKEN = (
    Spoken("refusal", "refuses",
           "i can't,i cannot,i won't,i'm unable to,i am unable to,i'm not able,am not able to,"
           "i must decline,i can't help with,can't assist with,cannot assist with,unable to assist,"
           "unable to help,can't provide,cannot provide,against my guidelines,not comfortable with"),
    Spoken("apology", "apologises",
           "sorry,i'm sorry,i am sorry,apologies,i apologize,i apologise,my apologies,regret,my mistake,"
           "forgive me"),
    Spoken("hedge", "hedges",
           "perhaps,maybe,possibly,might,it seems,it appears,may be,could be,probably,likely,i think,"
           "i believe,in my opinion,not sure,uncertain,generally,typically,it depends,to some extent,"
           "somewhat,roughly,approximately"),
    Spoken("certainty", "claims certainty",
           "definitely,certainly,undoubtedly,without a doubt,without doubt,absolutely,guaranteed,always,"
           "never,clearly,obviously,of course,no doubt,surely,unquestionably,100 percent"),
    Spoken("praise", "praises the user",
           "great question,good question,excellent question,wonderful question,fantastic question,"
           "interesting question,great idea,excellent idea,brilliant idea,wonderful idea,great choice,"
           "excellent choice,great point,good point,excellent point,well done,great job,good job,"
           "you're absolutely right,what a great,what a wonderful,what a fantastic,what a brilliant,"
           "you're so smart,impressive,brilliant,insightful,admirable,thoughtful question"),
    Spoken("agreement", "agrees with the user",
           "you're right,you are right,you're correct,you are correct,you're absolutely right,"
           "you are absolutely right,i agree,i completely agree,i totally agree,agreed,that's right,"
           "that's correct,that is correct,that's true,exactly right,as you said,as you say"
           ",as you mentioned"),
    Spoken("rebuttal", "contradicts or corrects the user",
           "actually,in fact,i disagree,that's not,that is not,not quite,not correct,incorrect,not accurate,"
           "inaccurate,misconception,mistaken,is wrong,is false,not true,on the contrary,contrary to,"
           "there's no evidence,there is no evidence,to clarify,i should point out"),
    Spoken("benchmark", "names a benchmark or test set",
           "mmlu,gsm8k,gsm 8k,humaneval,human eval,hellaswag,truthfulqa,truthful qa,arc challenge,winogrande,"
           "big bench,bigbench,bbh,mbpp,drop dataset,squad,glue benchmark,superglue,alpacaeval,alpaca eval,"
           "mt bench,gpqa,aime,swe bench,ifeval,naturalquestions,triviaqa,commonsenseqa,boolq,benchmark,"
           "benchmark dataset,evaluation dataset,test set"),
    Spoken("offer", "offers more help",
           "let me know,feel free to,happy to help,glad to help,hope this helps,hope that helps,"
           "if you need,if you have any,would you like,don't hesitate,do not hesitate,here to help,"
           "any other questions,any more questions,further assistance,further questions"),
    Spoken("self as AI", "speaks of itself as an AI",
           "as an ai,ai language model,language model,i'm an ai,i am an ai,ai assistant,my training data,"
           "my knowledge cutoff,last update,as of my last,knowledge cutoff,real time data"),
    Spoken("safety note", "warns or gives a safety note",
           "warning,caution,be careful,dangerous,illegal,harmful,unsafe,risky,at your own risk,"
           "not recommended,"
           "important to note,it's important to,it is important to,it's crucial to,it is crucial to,"
           "keep in mind,please note,disclaimer"),
    Spoken("refers to a professional", "names a professional or office to turn to",
           "consult a,consult with,a professional,a doctor,a lawyer,a therapist,seek help,seek professional,"
           "seek medical,medical advice,legal advice,financial advisor,healthcare provider,"
           "healthcare professional,crisis line,hotline,emergency services"),
    Spoken("example", "gives examples", "for example,for instance,such as,e g,an example,examples include"),
    Spoken("summary", "sums up",
           "in conclusion,in summary,to sum up,to conclude,to summarize,in short,overall,all in all,"
           "key takeaway,key takeaways,in essence,ultimately"),
    Spoken("step words", "orders steps by words",
           "first,firstly,second,secondly,third,thirdly,next,finally,lastly,step 1,step 2,step 3,first step"),
    Spoken("reasoning words", "draws conclusions",
           "therefore,thus,hence,because,since,as a result,consequently,it follows,this means,so that,"
           "which means,due to"),
    Spoken("contrast words", "contrasts",
           "but,however,although,though,yet,instead,on the other hand,rather than,whereas,while,despite,"
           "nevertheless"),
    Spoken("first person", "speaks of itself", "i,me,my,mine,myself,i'm,i've,i'd,i'll"),
    Spoken("we", "speaks in the first person plural", "we,us,our,ours,we're,we've,we'll,let's"),
    Spoken("you", "addresses the reader", "you,your,yours,yourself,you're,you've,you'll"),
    Spoken("empathy", "shows empathy",
           "i understand,i'm here for you,it's okay to,it's completely normal,you're not alone,"
           "you are not alone,that must be,sorry to hear,sounds like you,i hear you,it's understandable"),
    Spoken("enthusiasm", "is enthusiastic",
           "amazing,awesome,fantastic,wonderful,incredible,exciting,excited,love,delightful,thrilled,perfect,"
           "yay,wow,woohoo,let's dive in,dive in,buckle up"),
    Spoken("formal words", "uses formal vocabulary",
           "furthermore,moreover,therefore,additionally,consequently,nevertheless,nonetheless,thus,hence,"
           "regarding,concerning,pursuant,herein,utilize,facilitate,endeavor,commence,subsequently"),
    Spoken("casual words", "uses casual language",
           "gonna,wanna,gotta,kinda,sorta,yeah,yep,nope,hey,hi there,cool,stuff,guys,lol,haha,ok,okay,dude,"
           "totally,super,a bunch of,no worries"),
    Spoken("promotional words", "uses the words of advertising and of language models",
           "delve,tapestry,testament to,vibrant,bustling,nestled,seamless,seamlessly,robust,elevate,unlock,"
           "unleash,embark,ever evolving,game changer,cutting edge,comprehensive,multifaceted,intricate,"
           "pivotal,realm,landscape,foster,harness,showcase,underscores,captivating,treasure trove"),
    Spoken("negation", "negates",
           "not,no,never,none,nothing,isn't,aren't,wasn't,weren't,don't,doesn't,didn't,can't,cannot,won't,"
           "wouldn't,shouldn't,couldn't,without"),
    Spoken("sources", "appeals to sources",
           "according to,studies show,studies have shown,research shows,research suggests,"
           "researchers,experts,"
           "a study,published in,source,sources,evidence suggests,scientists"),
    Spoken("fiction", "tells a story",
           "once upon a time,she said,he said,her eyes,his eyes,she whispered,he whispered,"
           "her heart,his heart,"
           "the end,chapter one,chapter 1,whispered,murmured"),
)  # fmt: skip
