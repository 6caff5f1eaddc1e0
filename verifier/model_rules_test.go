package verifier

// rule is one that the model can take out of the protocol, to show that the promises need it.
type rule int

// The rules. Where one is taken out, it is in what the model does around the code: the code itself has no switch.
const (
	none rule = iota
	usableOnceApplied
	equalChain
	countsFromSending
	newestTerm
	grantOfOneInstance
	gateFloor
	floorKept
	floorOfOneHistory
	renewalKeepsFloor
	forgottenFirst
	suspendCounts
	attestedTime
	timeOutlivesIndex
	ackedChain
	readersSeeFirst
	newestHead
	ticketsOnce
	registeredFirst
	lapsedAfterFence
	longestLease
	needsAll
	takeover
	selfLeaseOfBefore
	repliesInsideSelfLease
)

// rules say what is taken out.
var rules = map[rule]string{
	usableOnceApplied:      "HOLD: a grant is usable only while its head is applied",
	equalChain:             "HOLD: ... and the chains are equal",
	countsFromSending:      "HOLD: the lease counts from the sending of the renewal",
	newestTerm:             "HOLD: a grant's term is no older than the log's",
	grantOfOneInstance:     "HOLD: a grant is of one instance",
	gateFloor:              "GATE: nothing is answered below the floor",
	floorKept:              "DURABLE: a restart goes on with the floor",
	floorOfOneHistory:      "DURABLE: ... and with its chain",
	renewalKeepsFloor:      "DURABLE: the floor is kept before a renewal acknowledges",
	forgottenFirst:         "DURABLE: an instance is forgotten before its goodbye",
	suspendCounts:          "TIMES: the clock goes on in suspend",
	attestedTime:           "CLOCK: never behind the attested time",
	timeOutlivesIndex:      "CLOCK: ... whatever becomes of the index",
	ackedChain:             "ACK: counted only if the chain is the log's",
	readersSeeFirst:        "ACK: sent after readers see it",
	newestHead:             "GRANT: its head is the newest durable one",
	ticketsOnce:            "GRANT: a ticket is shown once",
	registeredFirst:        "MEMBERS: registered before the first grant",
	lapsedAfterFence:       "MEMBERS: lapsed after the fence",
	longestLease:           "VERDICT: the fence takes the longest lease in use",
	needsAll:               "VERDICT: needs every member, heard or not",
	takeover:               "VERDICT: a new term waits for what came before it",
	selfLeaseOfBefore:      "VERDICT: ... and for the self-lease before it",
	repliesInsideSelfLease: "REPLY: a grant leaves inside the self-lease",
}

// telling are the kinds of steps that a rule is mostly about, where histories of all kinds would take long to come to the point.
var telling = map[rule][]string{
	equalChain:             {"follows a fork", "renews", "a packet arrives", "sends a grant", "time passes until a fence"},
	floorOfOneHistory:      {"follows a fork", "crashes", "starts"},
	ticketsOnce:            {"is doubled", "crashes", "starts", "a packet arrives"},
	longestLease:           {"changes the lease", "time passes until a fence"},
	selfLeaseOfBefore:      {"is elected", "opens a term", "sends a grant", "a packet arrives"},
	repliesInsideSelfLease: takeovers,
}

var takeovers = []string{
	"is elected", "opens a term", "has its append land", "learns of its append", "sends a grant", "time passes until a fence",
	"a packet arrives",
}
