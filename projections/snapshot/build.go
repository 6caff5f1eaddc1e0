package snapshot

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/keyindex"
)

// tableBytes is about how much one table holds: little enough to be fetched again after an interruption, and to be
// the same in the next snapshot; enough that a large index is some hundred objects.
const tableBytes = 16 << 20

// Build puts a snapshot of idx, as it stands now, beside those that are there, and gives its manifest. It holds one table
// in memory. Tables that are there already are not put again; the manifest goes last, so that one that is seen is whole.
// One Build or Prune at a time may work on the same objects.
func Build(ctx context.Context, idx *keyindex.Index, objects Objects, signer crypto.Signer) (Manifest, error) {
	return build(ctx, idx, objects, signer, tableBytes)
}

func build(ctx context.Context, idx *keyindex.Index, objects Objects, signer crypto.Signer, tableBytes int) (Manifest, error) {
	names, err := objects.List(ctx)
	if err != nil {
		return Manifest{}, err
	}
	m := Manifest{DigestVersion: keyindex.DigestVersion}
	m.Position, m.Digest, err = idx.Export(ctx, tableBytes, func(ctx context.Context, exported keyindex.Table) error {
		t := Table{
			Digest: sha256.Sum256(exported.Data), Size: int64(len(exported.Data)),
			First: bytes.Clone(exported.First), Last: bytes.Clone(exported.Last),
		}
		m.Tables = append(m.Tables, t)
		if slices.Contains(names, t.name()) {
			return nil
		}
		return objects.Put(ctx, t.name(), bytes.NewReader(exported.Data))
	})
	if err != nil {
		return Manifest{}, fmt.Errorf("export the index: %w", err)
	}
	signed, err := m.sign(signer)
	if err != nil {
		return Manifest{}, err
	}
	return m, objects.Put(ctx, m.name(), bytes.NewReader(signed))
}

// Prune deletes all but the newest so many snapshots, whatever names itself a manifest and is not signed by a pinned
// key, and the tables that no snapshot left names. If a manifest cannot be read, nothing is deleted. Stopped in
// between, it leaves whole snapshots, and tables that the next Prune deletes.
func Prune(ctx context.Context, objects Objects, newest int, pinned ...events.PublicKey) error {
	names, err := objects.List(ctx)
	if err != nil {
		return err
	}
	needed, err := neededObjects(ctx, objects, manifestNames(names), newest, pinned)
	if err != nil {
		return err
	}
	// Manifests first: a table too many harms nobody.
	for _, name := range slices.Concat(manifestNames(names), tableNames(names)) {
		if needed[name] {
			continue
		}
		if err := objects.Delete(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// neededObjects are the newest manifests, and what they name.
func neededObjects(
	ctx context.Context, objects Objects, manifests []string, newest int, pinned []events.PublicKey,
) (map[string]bool, error) {
	needed := map[string]bool{}
	for kept := 0; kept < newest && len(manifests) > 0; manifests = manifests[1:] {
		m, err := readManifest(ctx, objects, manifests[0], pinned)
		if isOfManifest(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", manifests[0], err)
		}
		kept++
		needed[manifests[0]] = true
		for i := range m.Tables {
			needed[m.Tables[i].name()] = true
		}
	}
	if len(needed) == 0 {
		return nil, errors.New("no snapshot would be left")
	}
	return needed, nil
}
