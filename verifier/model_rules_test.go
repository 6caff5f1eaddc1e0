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
	floorOutlivesIndex
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
	floorOutlivesIndex:     "DURABLE: ... and a new index with what was acknowledged from the old one",
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

// telling are the kinds of steps that a rule is about, where histories of all kinds would take long to come to the point.
var telling = map[rule][]string{
	equalChain:             append([]string{"follows a fork", "shows a commit", "revokes a key"}, granting...),
	floorOfOneHistory:      {"follows a fork", "crashes", "starts", "shows a commit", "acknowledges", "a packet arrives"},
	floorOutlivesIndex:     append([]string{"begins a new index", "applies a commit", "shows a commit", "follows a fork"}, granting...),
	forgottenFirst:         {"is to stop", "says goodbye", "starts", "a packet arrives", "has its append land", "learns of its append"},
	ticketsOnce:            append([]string{"is doubled", "crashes", "starts"}, granting...),
	longestLease:           {"changes the lease", "has its append land", "learns of its append", "time passes until a fence"},
	selfLeaseOfBefore:      granting,
	repliesInsideSelfLease: append([]string{"some time passes"}, takeovers...),
}

var (
	granting  = []string{"renews", "a packet arrives", "sends a grant", "has its append land", "learns of its append", "time passes until a fence"}
	takeovers = append([]string{"is elected", "opens a term"}, granting...)
)
