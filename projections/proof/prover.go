package proof

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/keyfleet/keyfleet/events"
)

// Prover makes one proof from one pass over a log. It keeps the few hashes that the proof consists of, so its memory does
// not grow with the log. The leaves up to the size that it was made for are shown to Add; then Hashes has the proof.
type Prover struct {
	tree  Frontier
	kept  map[int64]tlog.Hash // by tlog's index of stored hashes; zero until the log has come so far
	prove func(tlog.HashReader) ([]tlog.Hash, error)
}

// ProveInclusion is for the proof that the event at seq is among the first size events.
func ProveInclusion(size, seq events.Seq) (*Prover, error) {
	return newProver(func(r tlog.HashReader) ([]tlog.Hash, error) {
		return tlog.ProveRecord(int64(size), int64(seq)-1, r)
	})
}

// ProveGrowth is for the proof that the log of size events grew out of the log of the first old events.
func ProveGrowth(size, old events.Seq) (*Prover, error) {
	return newProver(func(r tlog.HashReader) ([]tlog.Hash, error) {
		return tlog.ProveTree(int64(size), int64(old), r)
	})
}

// newProver finds out which hashes are wanted by a proof of zeros.
func newProver(prove func(tlog.HashReader) ([]tlog.Hash, error)) (*Prover, error) {
	p := &Prover{kept: map[int64]tlog.Hash{}, prove: prove}
	_, err := prove(tlog.HashReaderFunc(func(wanted []int64) ([]tlog.Hash, error) {
		for _, at := range wanted {
			p.kept[at] = tlog.Hash{}
		}
		return make([]tlog.Hash, len(wanted)), nil
	}))
	if err != nil {
		return nil, fmt.Errorf("no such proof can be made: %w", err)
	}
	return p, nil
}

// Add shows the next leaf.
func (p *Prover) Add(leaf []byte) {
	last := int64(p.tree.Size())
	p.tree.add(leafHash(leaf), func(height int, root Root) {
		at := tlog.StoredHashIndex(height, last>>height)
		if _, wanted := p.kept[at]; wanted {
			p.kept[at] = tlog.Hash(root)
		}
	})
}

// Hashes is the proof, once all leaves were shown.
func (p *Prover) Hashes() ([]Root, error) {
	hashes, err := p.prove(tlog.HashReaderFunc(func(wanted []int64) ([]tlog.Hash, error) {
		found := make([]tlog.Hash, len(wanted))
		for i, at := range wanted {
			found[i] = p.kept[at]
		}
		return found, nil
	}))
	roots := make([]Root, len(hashes))
	for i, h := range hashes {
		roots[i] = Root(h)
	}
	return roots, err
}

func tlogHashes(roots []Root) []tlog.Hash {
	hashes := make([]tlog.Hash, len(roots))
	for i, r := range roots {
		hashes[i] = tlog.Hash(r)
	}
	return hashes
}
