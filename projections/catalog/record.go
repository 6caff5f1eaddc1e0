package catalog

import (
	"errors"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
)

// keyRecord is what stands under a key's id, which it leaves out: the key, and where its last event stands, so that most keys
// need no further record for their history.
type keyRecord struct {
	projections.Key
	StreamSeq uint64 // of the commit that holds the event at Seq
}

const keyFields = 19

// EncodeMsgpack writes field by field: most of what a registry stores are these, and reflection takes four times as long.
func (r *keyRecord) EncodeMsgpack(enc *msgpack.Encoder) error {
	err := errors.Join(
		enc.EncodeArrayLen(keyFields),
		enc.EncodeString(r.Project), enc.EncodeUint(r.Rev),
		enc.EncodeBytes(r.Digest[:]), enc.EncodeBool(r.Foreign),
		enc.EncodeInt(int64(r.ExpiresAt)), enc.EncodeBool(r.Expired), enc.EncodeBool(r.Disabled),
		enc.EncodeString(r.Role), enc.EncodeString(r.Scope),
		enc.EncodeString(r.Name), enc.EncodeString(r.Description), enc.EncodeString(r.Hint),
		enc.EncodeInt(int64(r.CreatedAt)), enc.EncodeString(r.CreatedBy), enc.EncodeInt(int64(r.UpdatedAt)),
		enc.EncodeUint(uint64(r.Seq)), enc.EncodeUint(r.StreamSeq),
	)
	if r.Grace == (projections.Grace{}) {
		err = errors.Join(err, enc.EncodeNil())
	} else {
		err = errors.Join(err, enc.Encode(&r.Grace))
	}
	err = errors.Join(err, enc.EncodeArrayLen(len(r.Deployments)))
	for i := range r.Deployments {
		err = errors.Join(err, enc.EncodeBytes(r.Deployments[i][:]))
	}
	return err
}

var errKeyFields = errors.New("a key's record has another number of fields")

// DecodeMsgpack reads what EncodeMsgpack writes.
func (r *keyRecord) DecodeMsgpack(dec *msgpack.Decoder) error {
	n, err := dec.DecodeArrayLen()
	if err == nil && n != keyFields {
		err = errKeyFields
	}
	if err != nil {
		return err
	}
	var grace *projections.Grace
	err = dec.DecodeMulti(&r.Project, &r.Rev, &r.Digest, &r.Foreign, &r.ExpiresAt, &r.Expired, &r.Disabled, &r.Role, &r.Scope,
		&r.Name, &r.Description, &r.Hint, &r.CreatedAt, &r.CreatedBy, &r.UpdatedAt, &r.Seq, &r.StreamSeq, &grace, &r.Deployments)
	if grace != nil {
		r.Grace = *grace
	}
	if len(r.Deployments) == 0 {
		r.Deployments = nil
	}
	return err
}

// EncodeMsgpack writes without reflection.
func (c *Command) EncodeMsgpack(enc *msgpack.Encoder) error {
	return errors.Join(enc.EncodeArrayLen(3), enc.EncodeBytes(c.Request[:]), enc.EncodeUint(uint64(c.Seq)), enc.EncodeBytes(c.Subject[:]))
}

// record finds a key and where its last event stands, by its id.
func (v *View) record(id events.KeyID) (r keyRecord, err error) {
	if r, known := v.pending.key(id); known {
		return r, nil
	}
	r, found, err := get[keyRecord](v, idKey(keySpace, id))
	if found {
		r.ID = id
		v.pending.remember(&r)
	}
	return r, err
}
