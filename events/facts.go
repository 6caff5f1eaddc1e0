package events

// Type names an event type on the wire. Types are never renamed and never reused.
type Type string

// The event types of schema 1.
const (
	TypeLogOpened            Type = "log_opened"
	TypeTermOpened           Type = "term_opened"
	TypeSchemaRaised         Type = "schema_raised"
	TypeSettingChanged       Type = "setting_changed"
	TypeSigningKeyAdded      Type = "signing_key_added"
	TypeSigningKeyRetired    Type = "signing_key_retired"
	TypeProjectOpened        Type = "project_opened"
	TypeVerifierRegistered   Type = "verifier_registered"
	TypeVerifierLeft         Type = "verifier_left"
	TypeCreated              Type = "created"
	TypeEdited               Type = "edited"
	TypeAttached             Type = "attached"
	TypeDetached             Type = "detached"
	TypeExpiryChanged        Type = "expiry_changed"
	TypeExpired              Type = "expired"
	TypeDisabled             Type = "disabled"
	TypeEnabled              Type = "enabled"
	TypeRotated              Type = "rotated"
	TypeGraceEnded           Type = "grace_ended"
	TypeDeleted              Type = "deleted"
	TypeDeploymentRegistered Type = "deployment_registered"
	TypeDeploymentEdited     Type = "deployment_edited"
	TypeDeploymentRemoved    Type = "deployment_removed"
)

// Fact is the edge part of an event: what verifiers need of it, in the past tense. Facts are
// never refused and never changed; treat them as immutable.
//
// Each fact lists its fields once, in wire, for both directions. The list is its format: a field
// is never moved, retyped or dropped.
type Fact interface {
	Type() Type
	wire(codec)
}

// LogOpened is the first event of every log, written by init (or by an import, which always opens
// a new incarnation).
type LogOpened struct {
	Incarnation Incarnation
	SigningKey  PublicKey
}

// TermOpened says that a registry became the active one. Terms strictly increase.
type TermOpened struct {
	Term     uint64
	Registry string // name of the registry process, for people
}

// SchemaRaised allows commits of the schema to be written from the next commit on.
type SchemaRaised struct {
	Schema uint64
	Forced bool // an operator accepted that some readers stop
}

// SettingChanged sets one of the log-wide settings that every reader obeys, such as lease.
type SettingChanged struct{ Name, Value string }

// SigningKeyAdded lets heads and grants be signed by one more key.
type SigningKeyAdded struct{ SigningKey PublicKey }

// SigningKeyRetired ends a signing key's use for later heads.
type SigningKeyRetired struct{ SigningKey PublicKey }

// ProjectOpened is a project's first event. Where admin parts are sealed it carries the project's data key, wrapped
// by the key-encryption key that WrappedBy names; else both are empty. Repeated, it brings a further data key, under which
// later admin parts are sealed, or the same one wrapped anew, and opens nothing.
type ProjectOpened struct {
	DataKey   string // id of the data key, as sealed admin parts name it
	WrappedBy string
	Wrapped   []byte
}

// Mode is what a verifier does past its lease: "deny" or "serve".
type Mode string

// The modes of a verifier.
const (
	ModeDeny  Mode = "deny"
	ModeServe Mode = "serve"
)

// VerifierRegistered makes an instance a member of the fleet: no revocation is confirmed without it.
type VerifierRegistered struct {
	Verifier   string // stable name of the verifier
	PoP        string
	Mode       Mode
	ServeBound uint64 // ms past the lease for which ModeServe serves; 0 for ModeDeny
	Schema     uint64 // newest schema it understands
	Version    string // of its binary, for people
}

// VerifierLeft ends a membership. Why is goodbye, lapsed or released.
type VerifierLeft struct{ Why string }

// Created is a key's first event.
type Created struct {
	Digest      Digest
	Deployments []DeploymentID
	ExpiresAt   Instant
	Foreign     bool   // the secret is not of Keyfleet's own form: presented keys of any form are looked up
	Role        string // of an admin key in project _admin: viewer, editor or owner; else empty
	Scope       string // the project that an admin key may administer, or "*"; else empty
}

// Edited changes the name or the description, which stand in the admin part.
type Edited struct{}

// Attached lets the key open more deployments.
type Attached struct{ Deployments []DeploymentID }

// Detached ends that.
type Detached struct{ Deployments []DeploymentID }

// ExpiryChanged sets the instant at which the key dies, or Never.
type ExpiryChanged struct{ ExpiresAt Instant }

// Expired records that the key's instant came. ExpiresAt is the one that the scheduler saw: setting a
// future date afterwards revives the key.
type Expired struct{ ExpiresAt Instant }

// Disabled stops a key until it is enabled.
type Disabled struct{}

// Enabled undoes Disabled.
type Enabled struct{}

// Rotated gives the key a new secret. The one before opens until GraceUntil (0: not at all), and
// one before that no longer.
type Rotated struct {
	Digest     Digest
	GraceUntil Instant
	Foreign    bool
}

// GraceEnded records that the secret before the last rotation no longer opens.
type GraceEnded struct{ GraceUntil Instant }

// Deleted ends a key for good. Its name is free again; its id is never used again.
type Deleted struct{}

// DeploymentRegistered makes a deployment one that keys may be attached to.
type DeploymentRegistered struct{ Name, Upstream, Host string }

// DeploymentEdited sets where the deployment's requests go.
type DeploymentEdited struct{ Upstream, Host string }

// DeploymentRemoved ends every attachment to the deployment, whatever their number.
type DeploymentRemoved struct{}

// newFact gives an empty fact to decode into, nil for a type that this binary does not know.
func newFact(t []byte) Fact {
	switch Type(t) {
	case TypeCreated:
		return &Created{}
	case TypeEdited:
		return &Edited{}
	case TypeAttached:
		return &Attached{}
	case TypeDetached:
		return &Detached{}
	case TypeExpiryChanged:
		return &ExpiryChanged{}
	case TypeExpired:
		return &Expired{}
	case TypeDisabled:
		return &Disabled{}
	case TypeEnabled:
		return &Enabled{}
	case TypeRotated:
		return &Rotated{}
	case TypeGraceEnded:
		return &GraceEnded{}
	case TypeDeleted:
		return &Deleted{}
	case TypeDeploymentRegistered:
		return &DeploymentRegistered{}
	case TypeDeploymentEdited:
		return &DeploymentEdited{}
	case TypeDeploymentRemoved:
		return &DeploymentRemoved{}
	default:
		return newLogFact(t)
	}
}

func newLogFact(t []byte) Fact {
	switch Type(t) {
	case TypeLogOpened:
		return &LogOpened{}
	case TypeTermOpened:
		return &TermOpened{}
	case TypeSchemaRaised:
		return &SchemaRaised{}
	case TypeSettingChanged:
		return &SettingChanged{}
	case TypeSigningKeyAdded:
		return &SigningKeyAdded{}
	case TypeSigningKeyRetired:
		return &SigningKeyRetired{}
	case TypeProjectOpened:
		return &ProjectOpened{}
	case TypeVerifierRegistered:
		return &VerifierRegistered{}
	case TypeVerifierLeft:
		return &VerifierLeft{}
	default:
		return nil
	}
}

func (*LogOpened) Type() Type            { return TypeLogOpened }
func (*TermOpened) Type() Type           { return TypeTermOpened }
func (*SchemaRaised) Type() Type         { return TypeSchemaRaised }
func (*SettingChanged) Type() Type       { return TypeSettingChanged }
func (*SigningKeyAdded) Type() Type      { return TypeSigningKeyAdded }
func (*SigningKeyRetired) Type() Type    { return TypeSigningKeyRetired }
func (*ProjectOpened) Type() Type        { return TypeProjectOpened }
func (*VerifierRegistered) Type() Type   { return TypeVerifierRegistered }
func (*VerifierLeft) Type() Type         { return TypeVerifierLeft }
func (*Created) Type() Type              { return TypeCreated }
func (*Edited) Type() Type               { return TypeEdited }
func (*Attached) Type() Type             { return TypeAttached }
func (*Detached) Type() Type             { return TypeDetached }
func (*ExpiryChanged) Type() Type        { return TypeExpiryChanged }
func (*Expired) Type() Type              { return TypeExpired }
func (*Disabled) Type() Type             { return TypeDisabled }
func (*Enabled) Type() Type              { return TypeEnabled }
func (*Rotated) Type() Type              { return TypeRotated }
func (*GraceEnded) Type() Type           { return TypeGraceEnded }
func (*Deleted) Type() Type              { return TypeDeleted }
func (*DeploymentRegistered) Type() Type { return TypeDeploymentRegistered }
func (*DeploymentEdited) Type() Type     { return TypeDeploymentEdited }
func (*DeploymentRemoved) Type() Type    { return TypeDeploymentRemoved }

func (f *LogOpened) wire(c codec) {
	c.array(2)
	c.bin16((*[16]byte)(&f.Incarnation))
	c.bin32((*[32]byte)(&f.SigningKey))
}

func (f *TermOpened) wire(c codec) {
	c.array(2)
	c.uint(&f.Term)
	c.text(&f.Registry)
}

func (f *SchemaRaised) wire(c codec) {
	c.array(2)
	c.uint(&f.Schema)
	c.flag(&f.Forced)
}

func (f *SettingChanged) wire(c codec) {
	c.array(2)
	c.text(&f.Name)
	c.text(&f.Value)
}

func (f *SigningKeyAdded) wire(c codec) {
	c.array(1)
	c.bin32((*[32]byte)(&f.SigningKey))
}

func (f *SigningKeyRetired) wire(c codec) {
	c.array(1)
	c.bin32((*[32]byte)(&f.SigningKey))
}

func (f *ProjectOpened) wire(c codec) {
	c.array(3)
	c.text(&f.DataKey)
	c.text(&f.WrappedBy)
	c.bin(&f.Wrapped)
}

func (f *VerifierRegistered) wire(c codec) {
	c.array(6)
	c.text(&f.Verifier)
	c.text(&f.PoP)
	c.text((*string)(&f.Mode))
	c.uint(&f.ServeBound)
	c.uint(&f.Schema)
	c.text(&f.Version)
}

func (f *VerifierLeft) wire(c codec) {
	c.array(1)
	c.text(&f.Why)
}

func (f *Created) wire(c codec) {
	c.array(6)
	c.bin32((*[32]byte)(&f.Digest))
	c.deployments(&f.Deployments)
	c.instant(&f.ExpiresAt)
	c.flag(&f.Foreign)
	c.text(&f.Role)
	c.text(&f.Scope)
}

func (f *Attached) wire(c codec) {
	c.array(1)
	c.deployments(&f.Deployments)
}

func (f *Detached) wire(c codec) {
	c.array(1)
	c.deployments(&f.Deployments)
}

func (f *ExpiryChanged) wire(c codec) {
	c.array(1)
	c.instant(&f.ExpiresAt)
}

func (f *Expired) wire(c codec) {
	c.array(1)
	c.instant(&f.ExpiresAt)
}

func (f *Rotated) wire(c codec) {
	c.array(3)
	c.bin32((*[32]byte)(&f.Digest))
	c.instant(&f.GraceUntil)
	c.flag(&f.Foreign)
}

func (f *GraceEnded) wire(c codec) {
	c.array(1)
	c.instant(&f.GraceUntil)
}

func (f *DeploymentRegistered) wire(c codec) {
	c.array(3)
	c.text(&f.Name)
	c.text(&f.Upstream)
	c.text(&f.Host)
}

func (f *DeploymentEdited) wire(c codec) {
	c.array(2)
	c.text(&f.Upstream)
	c.text(&f.Host)
}

func (f *Edited) wire(c codec)            { c.array(0) }
func (f *Disabled) wire(c codec)          { c.array(0) }
func (f *Enabled) wire(c codec)           { c.array(0) }
func (f *Deleted) wire(c codec)           { c.array(0) }
func (f *DeploymentRemoved) wire(c codec) { c.array(0) }
