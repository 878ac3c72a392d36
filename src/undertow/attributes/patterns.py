r"""Regular expressions behind the format, opening and closing features, run by Arrow's RE2.

``head`` patterns see the first 240 characters, ``tail`` patterns the last 240, ``any`` patterns the whole
text, but only of rows that hold one of the characters in ``needs``. ``(?i)`` and ``(?m)`` are RE2's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BOTH = ("query", "response")
QUERY = ("query",)
RESPONSE = ("response",)
WINDOW = 240
"""Characters that head and tail patterns see."""


@dataclass(frozen=True)
class Pattern:
    """One property that a regular expression shows."""

    says: str
    """Rest of the sentence after ``The query`` or ``The response``."""
    regex: str
    """RE2 syntax."""
    where: Literal["head", "tail", "any"] = "any"
    """The part of the text that is searched."""
    needs: str = ""
    """Only texts with one of these characters are searched; empty: all."""
    kind: str = "format"
    """``Attribute.kind``."""
    sides: tuple[str, ...] = BOTH
    """Where it makes sense."""


_GAP = r"(?i)^[\s\"'“*>_-]*"
_SENTENCE = r"(?i)(^|[.!?\n:]\s*)[\s\"'“*>_-]*"

PATTERNS: tuple[Pattern, ...] = (
    # --- marks and layout
    Pattern("has a fenced code block", r"```", needs="`"),
    Pattern("has inline code in backticks", r"(^|[^`])`[^`\n]+`([^`]|$)", needs="`"),
    Pattern(
        "contains program code",
        r"(?m)^[ \t>]*(def \w+\s*\(|class \w+\s*[:({]|import [\w.]+\s*;?$|from [\w.]+ import |"
        r"#include\s*[<\"]|"
        r"(public|private|protected|static) [\w<>\[\]]+ ?\w*|function \w*\s*\(|(const|let|var) \w+\s*=|"
        r"(if|for|while|switch)\s*\(.*\)\s*\{|(for|while|if|elif|with|try|else)\b[^.?!]*:$|return [^.]*;?$|"
        r"(SELECT|INSERT INTO|UPDATE|CREATE TABLE|DELETE FROM) |<!DOCTYPE|</?(html|div|body|head|script|"
        r"table)\b|"
        r"\w+(\.\w+)*\s*(=|\+=)\s*[^=\n]*[;)\]]$|\}\s*$|System\.out|console\.log|print\s*\(|fn \w+\(|"
        r"func \w+\()",
        needs="(){};=<",
    ),
    Pattern("contains Python code", r"(?m)^\s*(def \w+\(.*\)\s*(->.*)?:|import \w+|from [\w.]+ import |"
        r"print\(|"
            r"for \w+ in .+:$|while .+:$)"),
    Pattern("contains SQL", r"(?i)\bselect\b[^.?!]{1,200}\bfrom\b\s+\w+|\binsert into\b|\bcreate table\b"),
    Pattern("contains HTML", r"</?(html|div|p|span|body|head|table|tr|td|ul|ol|li|a|br|h[1-6]|script|"
        r"form)\b[^>]*>",
            needs="<"),
    Pattern("contains LaTeX",
            r"\\(frac|sqrt|int|sum|prod|alpha|beta|gamma|theta|pi|cdot|times|text|mathbf|mathrm|begin|left|"
            r"lim|infty|leq|geq|neq|boxed|in|to)\b|\\[(\[]|\$\$|"
            r"\$[^$\n]{0,80}[\\^_={}+][^$\n]{0,80}\$", needs="\\$"),
    Pattern("has a boxed answer", r"\\boxed\{", needs="\\"),
    Pattern("has a markdown heading", r"(?m)^#{1,6} \S", needs="#"),
    Pattern("has number signs before a word", r"(^|\s)#{1,6} \S", sides=("query",), needs="#"),
    Pattern("has bold text", r"\*\*[^*\n]+\*\*", needs="*"),
    Pattern("has italic text", r"(^|[\s(])(\*[^*\s][^*\n]*\*|_[^_\s][^_\n]*_)([\s.,)!?]|$)", needs="*_"),
    Pattern("has a table", r"(?m)^[^\n|]*\|[^\n|]+\|[^\n]*\n[^\n|]*\|[^\n|]*\|", needs="|"),
    Pattern("has a horizontal rule", r"(?m)^\s*(-{3,}|\*{3,}|_{3,}|={3,}|~{3,})\s*$", needs="-*_=~"),
    Pattern("has a block quote", r"(?m)^\s*> \S", needs=">"),
    Pattern("contains JSON", r"\{\s*\"[^\"\n]+\"\s*:", needs="{"),
    Pattern("is a JSON object or list", r"(?s)^\s*(\{\s*\".*\}|\[\s*[\[{\"\d].*\])\s*$", needs="{["),
    Pattern("has a link", r"(?i)\bhttps?://|\bwww\.[a-z]"),
    Pattern("has an e-mail address", r"[\w.+-]+@[\w-]+\.[a-zA-Z]{2,}", needs="@"),
    Pattern("has a hashtag", r"(^|\s)#[A-Za-z]\w+", needs="#"),
    Pattern("mentions a user by @name", r"(^|\s)@[A-Za-z]\w+", needs="@"),
    Pattern("has a tag in angle brackets", r"<[A-Za-z_][\w:-]*( [^<>\n]*)?>", needs="<"),
    Pattern("has a closing tag", r"</[A-Za-z_][\w:-]*>", needs="<"),
    Pattern("has a tag in square brackets", r"\[/?[A-Za-z_][A-Za-z0-9_ :-]{1,30}\]", needs="["),
    Pattern("has a placeholder in braces", r"\{\{?[A-Za-z_]\w*\}?\}", needs="{"),
    Pattern("has an arithmetic expression", r"\d\s*[-+*/×÷^]\s*\d", needs="0"),
    Pattern("has an equation", r"[\w)\]]\s*=\s*[-\w(\[\\$]", needs="="),
    Pattern("has calculator annotations", r"<<[^<>\n]+>>", needs="<"),
    Pattern("mentions money", r"[$€£¥₹]\s?\d|\d\s?(dollars|euros|pounds|cents|usd|eur)\b", needs="0"),
    Pattern("mentions a percentage", r"\d\s?(%|percent)", needs="0"),
    Pattern("mentions a year", r"\b(1[5-9]\d\d|20\d\d)\b", needs="0"),
    Pattern("mentions a time of day", r"(?i)\b\d{1,2}:\d\d\b|\b\d{1,2} ?(am|pm)\b", needs="0"),
    Pattern("has words in capitals", r"\b[A-Z]{4,}\b"),
    Pattern("has an ellipsis", r"\.\.\.|…", needs=".…"),
    Pattern("has repeated marks of exclamation or question", r"[!?]{2,}", needs="!?"),
    Pattern("has a long quotation", r"[\"“][^\"”]{80,}[\"”]", needs="\"“"),
    Pattern("has a short quotation", r"[\"“][^\"”\n]{2,60}[\"”]", needs="\"“"),
    Pattern("has words in parentheses", r"\([A-Za-z][^()\n]{2,}\)", needs="("),
    Pattern("has a blank to fill in", r"_{2,}|\[(MASK|BLANK|blank|mask)\]", needs="_["),
    Pattern("has star ratings", r"[★☆⭐]", needs="★☆⭐"),
    Pattern("has an arrow", r"->|=>|→|⇒|-->", needs=">→⇒"),
    # --- structure
    Pattern("has several parts, (a) and (b)", r"(?si)(\(a\)|\ba\)).*(\(b\)|"
        r"\bb\))", needs=")", kind="structure"),
    Pattern("has several parts, 1 and 2", r"(?s)(^|\s)\(?1[.):].*\s\(?2[.):]", needs="1", kind="structure"),
    Pattern("has a part A and a part B", r"(?si)\b(part|question|section|task|option) (a|1|i|one)\b.*"
            r"\b(part|question|section|task|option) (b|2|ii|two)\b", kind="structure"),
    Pattern("has a role a and a role b", r"(?si)\b(role|person|speaker|player|character|agent|side|"
        r"team) (a|1|one)\b"
            r".*\b(role|person|speaker|player|character|agent|side|team) (b|2|two)\b", kind="structure"),
    Pattern("orders its parts with first and second or then", r"(?si)\bfirst(ly)?\b.*\b(second(ly)?|then|"
        r"next|finally)\b",
            kind="structure"),
    Pattern("asks two things joined by and also", r"(?i)[?,.;] (and )?(also|additionally|"
        r"then),? ", kind="structure",
            sides=QUERY),
    Pattern("is a dialogue with speaker names", r"(?m)^[A-Z][\w .'-]{0,20}: .*\n(.*\n)?[A-Z][\w .'-]{0,20}: ",
            needs=":", kind="structure"),
    Pattern("has metadata lines of the form key: "
        "value", r"(?m)^[A-Za-z][\w -]{0,30}: ?\S[^\n]{0,60}$", needs=":",
            kind="structure"),
    Pattern("begins with a metadata "
        "line", r"^[A-Za-z][\w -]{0,30}: ?\S[^\n]{0,60}\n", "head", ":", "structure"),
    Pattern("has a labelled context or passage", r"(?im)^\W{0,3}(context|passage|paragraph|article|"
        r"background|text|"
            r"document|story|review|information|facts|source|excerpt)( \d)?\s*:", needs=":", kind="structure",
            sides=QUERY),
    Pattern("has a labelled question", r"(?im)^\W{0,3}(question|q|"
        r"query)( \d)?\s*:", needs=":", kind="structure"),
    Pattern("ends with a label for the answer", r"(?i)(answer|a|response|output|summary|rating|label|"
        r"solution)\s*:\s*$",
            "tail", ":", "structure", QUERY),
    Pattern("lists answer options", r"(?im)^\W{0,3}(options|choices|answers|possible answers|candidates)\s*:",
            needs=":", kind="structure", sides=QUERY),
    Pattern("declares tools that may be called",
            r"(?i)(\b(tools?|functions?|plugins?|apis?)\b[^\n]{0,60}:|toolformer|you have access to|"
            r"available tools|"
            r"\"(function|parameters|tools?)\"\s*:)|(?m)^\s*[A-Za-z_]\w*\([A-Za-z_, ]*\)\s*$", needs="(:{",
            kind="structure", sides=QUERY),
    # --- how a query asks
    Pattern("is one short question", r"(?s)^[^.!?\n]{3,80}\?\s*$", "head", "?", "question", QUERY),
    Pattern("asks a who question", _SENTENCE + r"(by |to |for )?(who|whom|"
        r"whose)\b[^.!\n]*\?", needs="?", kind="question",
            sides=QUERY),
    Pattern("asks a when question", _SENTENCE + r"(since |until )?(when|(in )?(what|which) (year|date|"
        r"month|century))\b"
            r"[^.!\n]*\?", needs="?", kind="question", sides=QUERY),
    Pattern("asks a where question", _SENTENCE + r"(from )?(where|in (what|which) (country|city|place|"
        r"state))\b[^.!\n]*\?",
            needs="?", kind="question", sides=QUERY),
    Pattern("asks a why question", _SENTENCE + r"(why|how come|"
        r"for what reason)\b[^.!\n]*\?", needs="?", kind="question",
            sides=QUERY),
    Pattern("asks a how question", _SENTENCE + r"how\b[^.!\n]*\?", needs="?", kind="question", sides=QUERY),
    Pattern("asks a what question", _SENTENCE + r"(in |on |at |by |from |to |"
        r"for )?what\b[^.!\n]*\?", needs="?",
            kind="question", sides=QUERY),
    Pattern("asks a which question", _SENTENCE + r"(in |on |at |by |from |to |for |"
        r"of )?which\b[^.!\n]*\?", needs="?",
            kind="question", sides=QUERY),
    Pattern("asks a yes/no question", _SENTENCE + r"(is|are|am|was|were|do|does|did|can|could|will|would|"
        r"should|has|"
            r"have|had|may|might|must)(n't)? [^.!\n]*\?", needs="?", kind="question", sides=QUERY),
    Pattern("opens with an imperative", _GAP + r"(please )?(write|give|explain|describe|list|name|tell|"
        r"show|create|"
            r"generate|make|find|compute|calculate|solve|translate|summari[sz]e|rewrite|edit|convert|"
            r"classify|identify|"
            r"provide|suggest|design|implement|compare|discuss|analy[sz]e|answer|choose|select|pick|"
            r"determine|evaluate|"
            r"extract|fill|complete|continue|develop|draft|compose|outline|define|state|prove|simplify|"
            r"sort|count|"
            r"construct|consider|imagine|read|use|add|remove|replace|fix|correct|check|test|help|let|do|"
            r"say|repeat|"
            r"respond|reply|return|output|print|elucidate|delineate|discover|retrieve|fetch|search|look|"
            r"get|put|"
            r"combine|arrange|recommend|explore|formulate|predict|guess|"
            r"decide)\b", "head", kind="question", sides=QUERY),
    Pattern("opens with a question word", _GAP + r"(who|whom|whose|what|which|when|where|why|how)\b", "head",
            kind="question", sides=QUERY),
    Pattern("opens with a greeting", _GAP + r"(hi|hello|hey|greetings|good (morning|afternoon|evening)|"
        r"dear)\b", "head",
            kind="opening"),
    Pattern("opens with a polite request", _GAP + r"(please|could you|can you|would you|will you|kindly|"
        r"may i|"
            r"i would like|i'd like)\b", "head", kind="question", sides=QUERY),
    Pattern("tells something about the asker", r"(?i)\b(i am|i'm|i was|i work|i live|i have been|"
        r"my name is|my (wife|"
            r"husband|mother|father|son|daughter|boss|friend|teacher|doctor|dog|cat|company|team|job|"
            r"family))\b", kind="persona", sides=QUERY),
    Pattern("introduces the asker's role or age", r"(?i)\b(i am|i'm|as) (an? )?(\d{1,2}[- ]years?[- ]old|"
        r"\w+ )?"
            r"(student|teacher|doctor|nurse|engineer|developer|programmer|lawyer|writer|farmer|parent|"
            r"mother|father|"
            r"researcher|scientist|chef|manager|beginner|novelist|pilot|soldier|artist|musician|"
            r"journalist)\b", kind="persona", sides=QUERY),
    Pattern("gives the assistant a role", r"(?i)\b(you are (an? |the )|you're an? |act as|pretend (to be|"
        r"you)|imagine "
            r"(you|that you)|roleplay|role-play|play the role|take on the role|assume the role|your role is|"
            r"from the perspective of|in the style of|in the voice of)", kind="persona",
            sides=QUERY),
    Pattern("gives a backstory before its request", r"(?is)^[^?]{0,40}\b(i am|i'm|i was|i have|my|we are|"
        r"we were|we)\b"
            r"[^?\n]{40,}[.!]\s+[^.!]*\?\s*$", "head", "?", "persona", QUERY),
    # --- answer-format instructions
    Pattern("restricts the answer's form with only or just", r"(?i)\b(answer|respond|reply|return|output|"
        r"say|write|give)"
            r"( me| us)?( with| in)?( only| just)\b|\bonly (answer|respond|reply|return|output|say)|"
            r"\bjust (answer|say|give|reply|respond)\b|\bonly (yes or no|the)\b|\bnothing else\b|"
            r"\bno (explanation|other text|preamble)\b", kind="instruction", sides=QUERY),
    Pattern("asks for yes or no", r"(?i)\byes or no\b|\byes/no\b|\btrue or false\b|\byes, no,? or\b|"
        r"\byes,? or no\b", kind="instruction", sides=QUERY),
    Pattern("asks for a one-word or very short answer", r"(?i)\b(in |with )?(a |one |a single |1 )(word|"
        r"number|letter|name|"
            r"phrase)( only)?( answer)?\b|\bone[- ]word\b|\bshort answer\b|\bbriefly\b|\bconcise(ly)?\b|"
            r"\bin brief\b|"
            r"\bin a few words\b", kind="instruction", sides=QUERY),
    Pattern("sets a length in words or sentences", r"(?i)\b(in|at most|at least|under|about|around|within|"
        r"maximum of|"
            r"no more than|less than|fewer than|exactly|using|than)( about)? (\d+|one|two|three|four|five|"
            r"ten|a few)"
            r"( or (\d+|fewer|less|more|\w+))?[- ](words?|sentences?|paragraphs?|lines?|characters?|"
            r"bullet points?)\b", kind="instruction", sides=QUERY),
    Pattern("asks for a certain output format", r"(?i)\b(in|as|using|into) (an? )?(valid |proper |"
        r"strict )?(json|xml|yaml|csv|"
            r"markdown|html|latex|table|bullet(ed)? (list|points)|numbered list|list|haiku|poem|"
            r"code block|tabular)\b|"
            r"\b(json|csv|xml|yaml) (format|object|output|list)\b", kind="instruction", sides=QUERY),
    Pattern("tells what to begin or end with", r"(?i)\b(begin|start|end|finish|conclude)(s|ning|ing)? "
            r"(your (answer|response|reply) )?with\b", kind="instruction", sides=QUERY),
    Pattern("forbids something", r"(?i)\b(do not|don't|never|avoid|without|must not|no code|"
        r"refrain from)\b", kind="instruction", sides=QUERY),
    Pattern("refers to the following or the text above", r"(?i)\b(the following|below|above|given (the|this)|"
            r"this (passage|paragraph|article|text|review|question|sentence|story|dialogue|code|"
            r"context))\b", kind="instruction", sides=QUERY),
    # --- how a response opens
    Pattern("opens with a refusal", _GAP + r"((i'm|i am) (really |very |so |truly )?(sorry|unable|"
        r"not able|afraid|not "
            r"comfortable)|sorry|i (can't|cannot|can not|won't|will not|must decline|have to decline|"
            r"am not going to|"
            r"don't feel comfortable|could not|couldn't)|(i )?apologi[sz]e|unfortunately,? i|as an ai|"
            r"my apologies|"
            r"i must (refuse|decline))\b", "head", kind="opening", sides=RESPONSE),
    Pattern("refuses to help", r"(?i)\b(i|we) (can't|cannot|can not|won't|will not|am unable to|"
        r"am not able to|"
            r"'m unable to|'m not able to|must decline to|decline to)\b( \w+){0,2} (help|assist|provide|"
            r"comply|answer|"
            r"discuss|share|do|give|support|fulfil|fulfill|offer|create|write|engage)|\bnot able to (help|"
            r"assist)|"
            r"\bunable to (help|assist|provide|answer|discuss)", "head", "", "stance", RESPONSE),
    Pattern("opens with an apology", _GAP + r"(i'm |i am |we're |we are )?(really |very |so |truly |"
        r"terribly )?(sorry|"
            r"my apologies|apologies|i apologi[sz]e|we apologi[sz]e|pardon|"
            r"forgive)\b", "head", kind="opening",
            sides=RESPONSE),
    Pattern("opens with praise", _GAP + r"((that's|that is|this is|it's) (an? )?)?(such an? |"
        r"an? )?(really |very )?(what an? )?"
            r"(great|good|excellent|wonderful|fantastic|fascinating|interesting|brilliant|amazing|"
            r"terrific|superb|lovely|"
            r"insightful|thoughtful|perfect|well done|bravo|nice|love)\b|"
            r"" + _GAP + r"(what an? \w+ (question|idea|"
            r"thought|point)|you('re| are) (absolutely |so |quite )?(right|smart|"
            r"brilliant))", "head", kind="opening",
            sides=RESPONSE),
    Pattern("opens with a rebuttal", _GAP + r"((no|actually|incorrect|false|wrong|untrue|not (quite|"
        r"exactly|really))\b|"
            r"(that|this|it)('s| is| was)( actually| in fact)? (not|in|a (common )?(myth|misconception)|"
            r"false|wrong|"
            r"incorrect|untrue|isn't|wasn't)|there (is|was) no\b|contrary to)|^[^.!?\n]{0,100}\b(did not|"
            r"didn't|never|"
            r"was not|wasn't|is not|isn't|were not|does not|"
            r"doesn't)\b", "head", kind="opening", sides=RESPONSE),
    Pattern("opens with no", _GAP + r"(no|nope|nay)\b", "head", kind="opening", sides=RESPONSE),
    Pattern("opens with yes", _GAP + r"(yes|yeah|yep|yup)\b", "head", kind="opening", sides=RESPONSE),
    Pattern("opens with agreement", _GAP + r"(sure|certainly|of course|absolutely|definitely|okay|ok|"
        r"gladly|happy to|"
            r"no problem|indeed|right|exactly|correct|true)\b", "head", kind="opening", sides=RESPONSE),
    Pattern("opens with a hedge", _GAP + r"(it depends|i think|i believe|perhaps|maybe|possibly|probably|"
        r"it seems|"
            r"it appears|i'm not sure|i am not sure|it's (hard|difficult)|it is (hard|difficult|possible|"
            r"likely)|"
            r"in my opinion|well|generally|typically|arguably)\b", "head", kind="opening", sides=RESPONSE),
    Pattern("opens as a story", _GAP + r"(once upon a time|once,|there once|there was once|long ago|"
        r"many years ago|"
            r"in a (small|little|distant|quiet|faraway|far|land|world|kingdom|village)|it was a (dark|"
            r"cold|bright|warm|"
            r"sunny|quiet|stormy)|one (day|morning|evening|night|sunny)|the (old|young) (man|woman|king|"
            r"queen|girl|boy))",
            "head", kind="opening", sides=RESPONSE),
    Pattern("opens with here is", _GAP + r"(here (is|are|'s)|here's|below (is|are)|the following (is|"
        r"are))\b", "head",
            kind="opening", sides=RESPONSE),
    Pattern("opens with the answer is", _GAP + r"(the (final |correct |right )?answer (is|to)|"
        r"answer\s*:)", "head",
            kind="opening", sides=RESPONSE),
    Pattern("introduces itself by name", r"(?i)\b(my name is|i am called|i'm called|you can call me|"
        r"this is) [A-Z]|"
            r"(?i)^\s*(i am|i'm) [A-Z][\w-]*[,.]? (an? |the |and )", "head", "", "identity", RESPONSE),
    # --- how a response ends
    Pattern("ends with an offer of help", r"(?i)(let me know|feel free|happy to (help|assist)|"
        r"if you (have|need|want|"
            r"would like)|don't hesitate|do not hesitate|anything else|further (questions|assistance)|"
            r"is there "
            r"anything)[^\n]*$", "tail", kind="closing", sides=RESPONSE),
    Pattern("ends with a hope or a wish", r"(?i)\b((i |we )?hope (this|that|it|you|i)|good luck|"
        r"best of luck|enjoy|"
            r"have a (great|nice|good|wonderful)|take care|best wishes|all the best|happy \w+ing|"
            r"cheers)[^\n]*$", "tail",
            kind="closing", sides=RESPONSE),
    Pattern("ends with a summary sentence", r"(?i)(^|[.!?\n]\s*)(in (conclusion|summary|short)|overall|"
        r"to (sum up|conclude|"
            r"summari[sz]e)|therefore|thus|so|hence|ultimately)\b[^.!?\n]*[.!?]?\s*$", "tail", kind="closing",
            sides=RESPONSE),
    Pattern("ends with a statement of the answer", r"(?i)\b((final |correct )?answer(:| is|"
        r" was))[^\n]*$", "tail",
            kind="closing", sides=RESPONSE),
    Pattern("ends with a question", r"\?[\s\"'”)*_]*$", "tail", "?", "closing"),
    Pattern("ends with an exclamation mark", r"![\s\"'”)*_]*$", "tail", "!", "closing"),
    Pattern("ends with a colon", r":\s*$", "tail", ":", "closing"),
    Pattern("ends with a number", r"\d[\s.)%]*$", "tail", "0", "closing"),
    Pattern("ends without a full stop or other mark", r"[\w\p{L}]\s*$", "tail", kind="closing"),
    Pattern("calls a tool with a quoted "
        "argument", r"\b[A-Za-z_][\w.]*\(\s*['\"][^'\"\n]*['\"]", needs="(", kind="call"),
    Pattern("has a tool call in tags or JSON", r"(?i)<(tool_call|function_call|tool|call)[ >]|\"(name|"
        r"function|tool)\"\s*:"
            r"\s*\"\w+\"\s*,\s*\"(arguments|parameters|input)\"", needs="<{", kind="call"),
)  # fmt: skip
