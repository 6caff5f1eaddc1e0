package keyindex

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
)

// What stands under a digest: the record of the key whose secret has it, or, while a rotation's grace
// lasts, an alias of the digest that the key has now.
const (
	recordForm     = 1
	aliasForm      = 2
	deploymentForm = 1
)

// The flags of a key's record.
const (
	flagForeign = 1 << iota
	flagExpired
	flagDisabled
	flagGrace
	flagAdmin // role and scope follow
	flagsEnd
)

func bit(flag byte, set bool) byte {
	if set {
		return flag
	}
	return 0
}

// appendAlias appends the record of an alias to b.
func appendAlias(b []byte, of events.Digest) []byte { return append(append(b, aliasForm), of[:]...) }

// appendKey appends the edge part of k to b. What is needed to decide stands first and at fixed places.
func appendKey(b []byte, k *projections.Key) []byte {
	flags := bit(flagForeign, k.Foreign) | bit(flagExpired, k.Expired) | bit(flagDisabled, k.Disabled) |
		bit(flagGrace, k.Grace != projections.Grace{}) | bit(flagAdmin, k.Role != "" || k.Scope != "")
	b = append(b, recordForm, flags)
	b = append(b, k.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, k.Rev)
	b = binary.BigEndian.AppendUint64(b, uint64(k.ExpiresAt))
	b = append(b, k.Digest[:]...)
	if flags&flagGrace != 0 {
		b = append(b, k.Grace.Digest[:]...)
		b = binary.BigEndian.AppendUint64(b, uint64(k.Grace.Until))
	}
	b = appendText(b, k.Project)
	if flags&flagAdmin != 0 {
		b = appendText(appendText(b, k.Role), k.Scope)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(k.Deployments)))
	for i := range k.Deployments {
		b = append(b, k.Deployments[i][:]...)
	}
	return b
}

// decodeEntry reads what stands under a digest: a key, or the digest that it is an alias of.
func decodeEntry(data []byte) (k projections.Key, alias events.Digest, err error) {
	r := reader{rest: data}
	if len(data) > 0 && data[0] == aliasForm {
		r.byte()
		r.fill(alias[:])
		return k, alias, r.end()
	}
	decodeKey(&r, &k)
	if err := r.end(); err != nil {
		return projections.Key{}, alias, err
	}
	return k, alias, nil
}

func decodeKey(r *reader, k *projections.Key) {
	r.version(recordForm)
	flags := r.byte()
	if flags >= flagsEnd {
		r.fail("unknown flags %#x", flags)
	}
	k.Foreign, k.Expired, k.Disabled = flags&flagForeign != 0, flags&flagExpired != 0, flags&flagDisabled != 0
	r.fill(k.ID[:])
	if k.Rev = r.uint64(); k.Rev == 0 {
		r.fail("revision 0 of a key")
	}
	k.ExpiresAt = events.Instant(r.uint64())
	r.fill(k.Digest[:])
	if flags&flagGrace != 0 {
		r.fill(k.Grace.Digest[:])
		if k.Grace.Until = events.Instant(r.uint64()); k.Grace == (projections.Grace{}) {
			r.fail("an empty grace")
		}
	}
	k.Project = r.text()
	if flags&flagAdmin != 0 {
		if k.Role, k.Scope = r.text(), r.text(); k.Role == "" && k.Scope == "" {
			r.fail("an empty role")
		}
	}
	const size = len(events.DeploymentID{})
	if n := r.count(size); n > 0 {
		k.Deployments = make([]events.DeploymentID, n)
	}
	for i := range k.Deployments {
		r.fill(k.Deployments[i][:])
		if i > 0 && bytes.Compare(k.Deployments[i-1][:], k.Deployments[i][:]) >= 0 {
			r.fail("deployments out of order")
		}
	}
}

func encodeDeployment(d *projections.Deployment) []byte {
	b := slices.Concat([]byte{deploymentForm}, d.ID[:])
	b = binary.BigEndian.AppendUint64(b, d.Rev)
	for _, text := range []string{d.Project, d.Name, d.Upstream, d.Host} {
		b = appendText(b, text)
	}
	return b
}

func decodeDeployment(data []byte) (projections.Deployment, error) {
	var d projections.Deployment
	r := reader{rest: data}
	r.version(deploymentForm)
	r.fill(d.ID[:])
	if d.Rev = r.uint64(); d.Rev == 0 {
		r.fail("revision 0 of a deployment")
	}
	d.Project, d.Name, d.Upstream, d.Host = r.text(), r.text(), r.text(), r.text()
	if err := r.end(); err != nil {
		return projections.Deployment{}, err
	}
	return d, nil
}
