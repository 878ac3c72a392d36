"""Word and phrase lists behind the register, topic-of-task and stance features.

Each entry: what a text is said to do, and the phrases (one to four words) that show it. A text needs
``least`` hits, and ``per_words`` keeps long texts from passing on chance hits. The lists are common English
function and style words; none is drawn from a particular data set.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Lexicon:
    """Phrases that together show one property."""

    says: str
    """Rest of the sentence after ``The query`` or ``The response``."""
    phrases: str
    """Phrases, separated by commas."""
    kind: str = "register"
    """``Attribute.kind``."""
    least: int = 1
    """Hits needed."""
    per_words: int | None = None
    """At least one hit for so many words."""
    sides: tuple[str, ...] = ("query", "response")
    """Where it is looked for."""


_FORMAL = (
    "elucidate,delineate,expound,explicate,ascertain,endeavour,endeavor,henceforth,heretofore,hereby,herein,"
    "hereinafter,hitherto,thereof,therein,thereby,thereupon,wherein,whereby,whereupon,whereas,"
    "notwithstanding,"
    "forthwith,pursuant,aforementioned,aforesaid,utilize,utilise,utilization,facilitate,commence,terminate,"
    "procure,peruse,cognizant,expedite,furnish,render,articulate,substantiate,corroborate,promulgate,"
    "juxtapose,amalgamate,ameliorate,exacerbate,mitigate,paradigm,paramount,plethora,myriad,multifaceted,"
    "intricate,intricacies,nuanced,salient,pertinent,germane,ostensibly,inasmuch,insofar,vis-a-vis,"
    "moreover,furthermore,nevertheless,nonetheless,consequently,accordingly,subsequently,albeit,"
    "methodology,methodologies,ramifications,implications,comprehensive,comprehensively,holistic,delve,"
    "underpinnings,efficacious,efficacy,meticulous,meticulously,profound,quintessential,ubiquitous,"
    "dichotomy,exemplify,epitomize,encompass,encompasses,necessitate,necessitates,predicated,proffer,"
    "adumbrate,explication,disquisition,treatise,kindly provide,please furnish,i would be obliged,"
    "with regard to,in accordance with,with respect to,in light of,in lieu of,prior to,for the purpose of,"
    "it is incumbent,the aforementioned,shall,ought,whom,thus,hence,therefore,upon"
)
_ELABORATE = (
    "elucidate,delineate,expound,explicate,ascertain,henceforth,heretofore,herein,hitherto,thereof,therein,"
    "whereby,whereupon,notwithstanding,forthwith,pursuant,aforementioned,aforesaid,peruse,cognizant,"
    "corroborate,promulgate,juxtapose,amalgamate,ameliorate,exacerbate,plethora,myriad,multifaceted,"
    "intricacies,"
    "salient,pertinent,germane,ostensibly,inasmuch,ramifications,underpinnings,efficacious,meticulous,"
    "meticulously,quintessential,ubiquitous,dichotomy,exemplify,epitomize,encompass,necessitate,"
    "necessitates,predicated,proffer,adumbrate,explication,disquisition,treatise,articulate,substantiate,"
    "paradigm,endeavour,endeavor,multitude,perspicacious,lucid,erudite,exposition,profound,nuanced"
)
_CASUAL = (
    "hey,yo,sup,dude,bro,gonna,wanna,gotta,gimme,lemme,kinda,sorta,dunno,ain't,y'all,yeah,yep,yup,nope,nah,"
    "lol,lmao,rofl,omg,wtf,btw,idk,imo,imho,tbh,ngl,fyi,asap,thx,pls,plz,ty,u,ur,cuz,coz,haha,hahaha,hehe,"
    "hmm,umm,uh,um,awesome,cool,stuff,guys,folks,super,totally,whatever,crap,damn,heck,ok,okay,okey,"
    "what's up,wassup,no worries,my bad,can't even,xd,lil,tho,thru,gotcha,wassup,fam,vibe,vibes"
)
_SLANG = (
    "yo,sup,dude,bro,gonna,wanna,gotta,gimme,lemme,kinda,sorta,dunno,ain't,y'all,nope,nah,lol,lmao,rofl,"
    "omg,wtf,btw,idk,imo,tbh,ngl,thx,pls,plz,u,ur,cuz,coz,xd,lil,tho,wassup,fam,gotcha"
)
_CODE = (
    "python,javascript,typescript,java,golang,rust,kotlin,php,perl,sql,html,css,json,xml,yaml,regex,bash,"
    "code,coding,program,programming,script,function,algorithm,algorithms,array,arrays,loop,variable,"
    "variables,string,strings,integer,integers,class,method,api,database,query,compiler,debug,debugging,"
    "software,hash table,hash map,binary search,linked list,binary tree,recursion,recursive,mergesort,"
    "quicksort,"
    "sorting algorithm,data structure,data structures,dictionary,boolean,syntax,runtime,stack trace,unit "
    "test,"
    "git,docker,linux,numpy,pandas,react,node,django,flask,tensorflow,pytorch,command line,source code"
)
_MATHS = (
    "equation,equations,integral,derivative,polynomial,matrix,matrices,vector,theorem,proof,prove,"
    "triangle,circle,radius,diameter,perimeter,hypotenuse,angle,angles,fraction,fractions,percent,percentage,"
    "probability,algebra,geometry,calculus,arithmetic,multiply,divided,subtract,sum,product,quotient,"
    "square root,prime,factorial,solve for,evaluate,simplify,compute,calculate,average,median,ratio"
)
_SCIENCE = (
    "physics,chemistry,biology,quantum,molecule,molecules,atom,atoms,electron,electrons,protein,proteins,"
    "cell,cells,gene,genes,dna,rna,enzyme,energy,gravity,velocity,acceleration,temperature,species,evolution,"
    "ecosystem,photosynthesis,bacteria,virus,hypothesis,experiment,galaxy,planet,planets,neural,neurons"
)
_HARM = (
    "bomb,weapon,weapons,explosive,explosives,poison,kill,murder,hack,hacking,malware,ransomware,steal,"
    "cocaine,heroin,meth,suicide,self-harm,counterfeit,launder,phishing,shoplift,terrorist,terrorism"
)

_ARCHAIC = (
    "thee,thou,thy,thine,thyself,ye,hath,doth,hast,dost,shalt,wilt,canst,whence,wherefore,whither,hither,"
    "thither,verily,forsooth,prithee,pray tell,alas,anon,betwixt,ere,methinks,mayhap,perchance,hark,behold,"
    "yonder,nay,aye,unto,oft,fain,beseech,'tis,'twas,good sir,fair maiden,fair lady,my liege,good morrow"
)

LEXICONS: tuple[Lexicon, ...] = (
    Lexicon("uses formal vocabulary", _FORMAL, least=1, per_words=25),
    Lexicon("uses elaborate, scholarly words", _ELABORATE, per_words=60),
    Lexicon("uses casual language", _CASUAL, per_words=25),
    Lexicon("uses slang or chat abbreviations", _SLANG, per_words=60),
    Lexicon("uses archaic words", _ARCHAIC, per_words=60),
    Lexicon("mentions a programming concept", _CODE, "topic", per_words=40),
    Lexicon("uses several programming terms", _CODE, "topic", least=3, per_words=20),
    Lexicon("uses mathematical terms", _MATHS, "topic", per_words=40),
    Lexicon("uses scientific terms", _SCIENCE, "topic", per_words=50),
    Lexicon("mentions violence, crime or another sensitive subject", _HARM, "topic", per_words=60),
    Lexicon("is polite", "please,thank you,thanks,kindly,could you please,would you mind,i'd appreciate,"
            "i would appreciate,if you could,grateful,much appreciated", per_words=120),
    Lexicon("says please", "please", per_words=120),
    Lexicon("says thanks", "thank you,thanks,thank u,many thanks,thx", per_words=120),
    Lexicon("hedges", "perhaps,maybe,possibly,might,it seems,it appears,it is possible,i think,i believe,"
            "probably,likely,not sure,uncertain,may be,could be,in my opinion,as far "
            "as", "stance", per_words=60,
            sides=("response",)),
    Lexicon("claims uncertainty", "not sure,i'm not certain,i am not certain,i don't know,i do not know,"
            "uncertain,unclear,hard to say,difficult to say,can't say for,cannot say "
            "for", "stance", per_words=120),
    Lexicon("speaks in the first person", "i,me,my,mine,myself,i'm,i've,i'd,i'll", "stance", per_words=40),
    Lexicon("speaks in the first person plural", "we,us,our,ours,we're,we've,we'll", "stance", per_words=40),
    Lexicon("addresses the reader as you", "you,your,yours,you're,you've,you'll", "stance", per_words=40),
    Lexicon("contrasts or corrects", "but,however,although,though,yet,instead,on the contrary,actually,"
            "in fact,rather than", "stance", per_words=60),
    Lexicon("uses negation", "not,no,never,none,nothing,isn't,aren't,wasn't,weren't,don't,doesn't,didn't,"
            "can't,cannot,won't,wouldn't,n't,nor", "stance", per_words=30),
    Lexicon("speaks of a misconception or mistake", "misconception,myth,incorrect,mistaken,inaccurate,"
            "not true,is false,untrue,not accurate,not correct,is wrong,factual "
            "error", "stance", per_words=80),
    Lexicon("reasons step by step", "first,second,third,then,next,finally,step,therefore,so,thus,hence",
            "stance", least=2, per_words=40),
    Lexicon("asks for step-by-step reasoning", "step by step,step-by-step,show your work,show your reasoning,"
            "explain your reasoning,think carefully,think it through,reason "
            "through", "format", sides=("query",)),
    Lexicon("uses superlatives or enthusiasm", "great,amazing,wonderful,fantastic,excellent,brilliant,"
            "incredible,awesome,best,love,perfect,delightful,terrific", "stance", per_words=40),
    Lexicon("expresses a negative opinion", "bad,terrible,awful,worst,horrible,boring,disappointing,"
            "disappointed,poor,waste,hate,useless,annoying,mess", "stance", per_words=40),
    Lexicon("compares things", "than,compared to,compare,versus,vs,difference between,differences between,"
            "similarities,better than,more than,less than", "task", per_words=60),
    Lexicon("asks for a summary", "summarize,summarise,summary,sum up,tl dr,tldr,in short,main points,"
            "key points,brief overview,condense", "task", sides=("query",)),
    Lexicon("asks for a translation", "translate,translation,translated,how do you "
        "say", "task", sides=("query",)),
    Lexicon("asks for a classification or a choice", "classify,categorize,categorise,which of the following,"
            "choose,select,pick,options,choices,multiple choice,which category,true or false", "task",
            sides=("query",)),
    Lexicon("asks for an explanation", "explain,describe,elaborate,clarify,elucidate,what does,what is meant,"
            "how does,how do,why does,why do,why is,why are", "task", sides=("query",)),
    Lexicon("asks for a piece of writing", "write,compose,draft,generate,create,come up with,produce", "task",
            sides=("query",), per_words=120),
    Lexicon("asks for a story or poem", "story,stories,poem,haiku,tale,fairy tale,short story,fiction,novel,"
            "screenplay,lyrics,limerick,sonnet", "task", sides=("query",), per_words=60),
    Lexicon("asks for code", "write a function,write a program,write code,write a script,python function,"
            "python script,python program,a function that,a program that,a script that,sql query,"
            "write a query,html page,implement,javascript function", "task", sides=("query",)),
    Lexicon("asks to find an answer in a text", "extract,according to,based on the,based on this,given the,"
            "in the passage,from the passage,from the text,in the article,the following passage,"
            "following paragraph,following article,the context,following text,this "
            "paragraph", "task", sides=("query",)),
    Lexicon("asks for the sentiment or rating of a review", "review,reviews,sentiment,rating,stars,recommend,"
            "reviewer,satisfied,dissatisfied", "task", sides=("query",), least=2),
    Lexicon("asks for advice", "should i,advice,recommend,suggest,tips,how can i,how do i,what should,"
            "help me", "task", sides=("query",), per_words=60),
    Lexicon("asks how many or how much", "how many,how much", "question", sides=("query",)),
    Lexicon("asks about invention, discovery or founding", "invent,invented,inventor,invention,discover,"
            "discovered,discovery,founded,founder,patented", "topic", sides=("query",), per_words=60),
    Lexicon("asks about the assistant itself", "who are you,what are you,your name,who made you,"
            "who created you,who trained you,who built you,who developed you,are you an ai,are you human,"
            "your creator,what model are you,your developer", "topic", sides=("query",)),
    Lexicon("speaks of itself as an AI", "as an ai,ai language model,language model,i am an ai,i'm an ai,"
            "ai assistant,an artificial intelligence,my training data", "identity"),
    Lexicon("states who made or trained it", "i was created by,i was developed by,i was trained by,"
            "i was made by,i was built by,developed by,trained by,created by,built by,my creators,"
            "my developers", "identity", sides=("response",), per_words=60),
    Lexicon("gives an example", "for example,for instance,such as,e g,an example", "stance", per_words=120),
    Lexicon("sums up at the end", "in conclusion,in summary,to sum up,to conclude,overall,all in all,"
            "in short,to summarize", "closing", per_words=200, sides=("response",)),
    Lexicon("names a professional to turn to", "consult a,a professional,a doctor,a lawyer,seek help,"
            "seek professional,medical advice,legal advice,financial advisor", "stance", sides=("response",)),
    Lexicon("warns or gives a safety note", "warning,caution,be careful,dangerous,illegal,harmful,unsafe,"
            "risk,risks,it is important to", "stance", sides=("response",), per_words=100),
)  # fmt: skip

STOP_WORDS: dict[str, str] = {
    "English": "the of and to in is that it was for on are with as be this have from or by not but what "
    "all were "
               "when your can said there an which do how their if will other about out many then them "
               "these so "
               "some would make into has who did does you i my a at we they he she his her",
    "Spanish": "el la de que y en un una los las por con para como más pero sus le ya este sí porque esta "
    "entre "
               "cuando muy sin sobre también hasta hay donde quien desde todo nos durante todos uno les "
               "ni qué es son "
               "del al se lo cuál cómo cuándo fue",
    "French": "le la les de des du et en un une est que qui dans pour pas sur au avec ce il elle sont par "
    "plus ne se "
              "son sa ses mais comme ou nous vous leur être cette aux quel quelle comment où c'est quand "
              "pourquoi",
    "German": "der die das und ist nicht ein eine einen einem zu den dem des mit von auf für im sich auch "
    "es an werden "
              "aus er hat dass sie nach wird bei einer um am sind noch wie über so zum war haben nur oder "
              "aber vor zur "
              "bis mehr durch man was wer wo wann warum ich",
    "Italian": "il lo la gli di che e è un una per non con del della dei delle da sono come più anche si "
    "nel nella al "
               "alla ma questo questa quando chi dove perché quale cosa ha le i su se dal dalla",
    "Portuguese": "o a os as de que e do da em um uma para com não por mais dos como mas foi ao ele das "
    "tem seu sua ou "
                  "ser quando muito nos já está também só pelo pela até isso ela entre era depois sem "
                  "mesmo qual quem "
                  "são você é na no",
    "Dutch": "de het een en van in is dat op te zijn met voor niet aan er om ook als dan maar bij uit nog "
    "naar door "
             "over hij ze wat waar wie wanneer waarom hoe deze dit wordt werd kan geen hebben heeft",
    "Swedish": "och att det som en på är av för med den till inte om ett han men var jag sig från vi så "
    "kan när år "
               "där de hur vad vem varför också eller hade har detta under",
    "Danish or Norwegian": "og at det som en på er av af for med den til ikke om et han men var jeg seg "
    "sig fra vi så "
                           "kan når der hvor hva hvad hvem hvorfor også eller hadde havde har dette blir "
                           "bliver ble blev",
    "Finnish": "ja on ei se että oli hän mutta ovat kun mitä mikä kuka joka tai niin kuin myös olla tämä "
    "minä sinä ole "
               "vain jos missä miksi miten sen",
    "Polish": "i w na z do nie się jest to że o jak po co ale za od przez jego tym czy dla był są oraz "
    "przy ma tylko "
              "jej gdzie kto kiedy dlaczego który która które",
    "Czech or Slovak": "a v na je se že s z do to o k i jako za ale pro po by si jeho byl jsou není sa "
    "ako čo kde kdo "
                       "když proč který která jak jsem aby nebo",
    "Hungarian": "a az és hogy nem is egy van volt ez azt ami mint csak meg már ha vagy de mi ki hol "
    "mikor miért "
                 "hogyan melyik el kell lesz nagyon",
    "Romanian": "și de la în a cu pe nu este un o care că din mai pentru sunt au fost prin dar sau după "
    "ce cine unde "
                "când cum cât lui al ale",
    "Turkish": "ve bir bu da de için ile ne çok daha gibi olarak en olan var kadar sonra ama mi mı o ya "
    "ki ben nasıl "
               "neden nerede kim değil her",
    "Indonesian or Malay": "yang dan di itu dengan untuk tidak ini dari dalam akan pada juga ke karena "
    "kerana oleh "
    "saya apa apakah adalah ialah bisa boleh atau ada siapa mana bagaimana mengapa kapan bila sudah telah "
    "mereka "
    "kami kita anda dia ia bagi kepada tentang seperti sebagai jika kalau lebih lagi sangat hanya semua "
    "orang "
    "satu dapat harus masih tersebut tolong berapa antara setelah sebelum secara maka namun tetapi",
    "Vietnamese": "và là của có không cho được một trong người những các với này khi đã về ra như để đến "
    "gì ai đâu "
                  "nào thế tại sao từ vào",
    "Swahili": "na ya wa kwa ni katika za la cha hii hiyo kuwa si kama lakini nani nini wapi gani vipi "
    "yake wake kila "
               "sana mtu watu alikuwa ambayo ambao",
    "Tagalog": "ang ng sa mga na ay at si ito para ni hindi ko mo siya kung ano sino saan kailan paano "
    "bakit may "
               "kanyang isang nang",
    "Afrikaans": "die en van is in dat nie het 'n op te vir met wat sy hy ook aan om as was deur hulle "
    "maar watter "
                 "wie waar hoe hoekom wanneer",
    "Yoruba": "ni ti awon àwọn ati àti si sí fun fún lati láti pe pé kan naa náà wa wà nibo tani kini "
    "bawo ẹ ọ jẹ",
    "Hausa": "da na a ta ya shi ne ce ba don daga kuma wannan amma ina wane yaya yaushe menene mutane cikin",
    "Zulu or Xhosa": "ukuthi futhi kodwa noma ngoba kanye yini ubani kuphi nini njani umuntu abantu le lo "
    "ngo ku",
    "Welsh": "y yr yn a ac i o ar mae bod sydd nid oedd wedi gan am ond hefyd hyn beth pwy ble pryd sut "
    "pam ei eu",
    "Irish": "an na agus ar i go a is tá bhí le do ag sé sí cad cé cá conas nuair ach ní níl raibh",
    "Latin": "et in est non ad ut cum quod sed qui quae ex esse per hoc sunt aut si ab atque enim etiam "
    "quid quis ubi",
    "Esperanto": "la kaj de en estas ne al ke mi vi li ŝi ĝi por kun sur kiel kio kiu kie kiam kial sed "
    "aŭ estis",
    "Catalan": "el la els les de i que en un una per amb és no al del com més però aquest aquesta són qui "
    "què on quan "
               "també hi ha dels",
}  # fmt: skip
"""Frequent function words by language, for texts in Latin script."""

SCRIPTS: tuple[tuple[str, tuple[tuple[int, int], ...]], ...] = (
    ("Cyrillic", ((0x0400, 0x052F),)),
    ("Greek", ((0x0370, 0x03FF), (0x1F00, 0x1FFF))),
    ("Hebrew", ((0x0590, 0x05FF),)),
    ("Arabic", ((0x0600, 0x06FF), (0x0750, 0x077F), (0x08A0, 0x08FF))),
    ("Devanagari", ((0x0900, 0x097F),)),
    ("Bengali", ((0x0980, 0x09FF),)),
    ("Gurmukhi", ((0x0A00, 0x0A7F),)),
    ("Gujarati", ((0x0A80, 0x0AFF),)),
    ("Tamil", ((0x0B80, 0x0BFF),)),
    ("Telugu", ((0x0C00, 0x0C7F),)),
    ("Kannada", ((0x0C80, 0x0CFF),)),
    ("Malayalam", ((0x0D00, 0x0D7F),)),
    ("Sinhala", ((0x0D80, 0x0DFF),)),
    ("Thai", ((0x0E00, 0x0E7F),)),
    ("Lao", ((0x0E80, 0x0EFF),)),
    ("Tibetan", ((0x0F00, 0x0FFF),)),
    ("Burmese", ((0x1000, 0x109F),)),
    ("Georgian", ((0x10A0, 0x10FF),)),
    ("Hangul (Korean)", ((0x1100, 0x11FF), (0xAC00, 0xD7AF))),
    ("Ethiopic", ((0x1200, 0x137F),)),
    ("Khmer", ((0x1780, 0x17FF),)),
    ("Kana (Japanese)", ((0x3040, 0x30FF),)),
    ("Han (Chinese)", ((0x3400, 0x9FFF), (0x20000, 0x3FFFF))),
    ("Armenian", ((0x0530, 0x058F),)),
)
"""Scripts other than Latin and the blocks they live in."""
