package verify

import (
	"maps"
	"slices"
	"strings"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/human"
)

// lexicon is a set of words.
type lexicon map[string]bool

func words(text string) lexicon {
	set := lexicon{}
	for _, w := range strings.Fields(text) {
		set[w] = true
	}
	return set
}

// The closed vocabulary. A word outside of it, and outside of the words of the
// metric, refuses the claim. Words that quantify (only, all, at least), place in
// time (since, still, again), judge or hedge are left out on purpose: the
// assertion does not hold what they would say.
var (
	neutral   = words("the a an its of in with for was were is are has had this that which value count number total measured seen observed recorded counted reported at host finding evidence shows window during by from to on against towards toward between")
	above     = words("above higher greater more exceeds exceeded exceeding")
	below     = words("below lower less fewer")
	compare   = words("than compared against with times where usual baseline normal typical expected")
	marker    = words("usual baseline normal typical expected than compared") // a number after these is the baseline
	timesWord = words("times x")

	passive      = words("was were is are")
	finite       = words("was were is are had has shows exceeds exceeded reported")
	articles     = words("the a its")
	impliedWords = words("distinct tried started per second syn") // of a metric's name: without them a sentence says no more
	direction    = words("out src sent upload uploaded")          // what a verb says as well

	srcPreposition = words("from by")
	dstPreposition = words("to against towards toward on at")
)

// refusedWords names what a word outside the vocabulary does, so that the
// counters tell the ways of a model apart. Every other unknown word is UnknownWord.
var refusedWords = map[Reason]lexicon{
	Negation: words("no not none never neither nor without unavailable missing cannot unable nothing isn't wasn't don't doesn't didn't can't fails failed lacks absent unknown"),
	Cause:    words("because due cause caused causes causing since therefore thus hence so led leads result results resulted resulting trigger triggered triggers explains explain responsible root reason indicates indicate indicating suggests suggest suggesting implies imply means likely probably possibly may might could"),
	Blame:    words("attacker attackers attack attacking malicious hacker compromised infected malware victim suspicious threat guilty fault culprit adversary botnet intruder stolen breach"),
	Advice:   words("should must recommend recommended block blocked investigate check consider ensure please need needs ignore disable shutdown monitor contact"),
}

func refusalOf(word string) Reason {
	for _, reason := range []Reason{Negation, Cause, Blame, Advice} {
		if refusedWords[reason][word] {
			return reason
		}
	}
	return UnknownWord
}

// verbs say who acts. Each is allowed only with metrics that measure it.
type metricWords struct {
	active  []string // the source does it: "src opened …"
	receive []string // the destination gets it: "dst received …"
}

var (
	sent  = metricWords{active: []string{"sent", "transferred", "uploaded"}, receive: []string{"received"}}
	tried = metricWords{active: []string{"tried", "probed", "attempted"}}
	began = metricWords{active: []string{"attempted", "made", "sent", "started"}, receive: []string{"received", "got"}}
)

// verbsByWord gives the verbs that a metric may take by a word of its name. The
// direction of a metric that counts both ways is not known, so it has no verbs.
var verbsByWord = []struct {
	word  string
	verbs metricWords
}{
	{"syn", began}, {"syns", began}, {"attempts", began}, {"connections", began}, {"ports", tried}, {"targets", tried},
	{"hosts", tried}, {"out", sent}, {"src", sent}, {"upload", sent}, {"uploaded", sent}, {"sent", sent},
}

// wordsOf returns the words that a sentence about f may use besides the vocabulary.
func wordsOf(f Fact) (nouns, active, receive lexicon) {
	nouns, active, receive = lexicon{}, lexicon{}, lexicon{}
	name := nameWords(f.Metric)
	for _, w := range append(name, strings.Fields(strings.ToLower(human.Unit(f.Unit)))...) {
		nouns[w] = true
		if base, ok := strings.CutSuffix(w, "s"); ok {
			nouns[base] = true
		} else {
			nouns[w+"s"] = true
		}
	}
	for i := 1; i < len(name); i++ {
		nouns[name[i-1]+"-"+name[i]] = true // half-open
	}
	for _, v := range verbsByWord {
		if slices.Contains(name, v.word) {
			for _, w := range v.verbs.active {
				active[w] = true
			}
			for _, w := range v.verbs.receive {
				receive[w] = true
			}
		}
	}
	return nouns, active, receive
}

// nameWords returns the words of a metric's name.
func nameWords(metric string) []string {
	return strings.FieldsFunc(strings.ToLower(metric), func(r rune) bool { return r < 'a' || r > 'z' })
}

// Name writes the metric in words: "half-open connections per second".
func (f Fact) Name() string {
	name := strings.Join(nameWords(f.Metric), " ")
	for _, pair := range []string{"half open", "one way"} {
		name = strings.ReplaceAll(name, pair, strings.ReplaceAll(pair, " ", "-"))
	}
	return name
}

// Verbs returns the verbs that a sentence about f may use, sorted: those of the
// source and those of the destination, each only if f names such a host.
func (f Fact) Verbs() (src, dst []string) {
	_, active, receive := wordsOf(f)
	if f.Src != "" {
		src = slices.Sorted(maps.Keys(active))
	}
	if f.Dst != "" {
		dst = slices.Sorted(maps.Keys(receive))
	}
	return src, dst
}

// Vocabulary returns the words besides Verbs that a sentence about f may use under
// relation, sorted.
func (f Fact) Vocabulary(relation string) []string {
	nouns, _, _ := wordsOf(f)
	all := lexicon{}
	sets := []lexicon{neutral, nouns}
	switch relation {
	case Above:
		sets = append(sets, above, compare)
	case Below:
		sets = append(sets, below, compare)
	}
	for _, set := range sets {
		maps.Copy(all, set)
	}
	return slices.Sorted(maps.Keys(all))
}
