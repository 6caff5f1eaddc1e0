package main

import (
	"bytes"
	"crypto/rand"
	_ "embed" // for the templates
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

//go:embed deploy.tmpl
var deployTemplates string

var deployFiles = template.Must(template.New("deploy").Parse(deployTemplates))

// site is a place with a copy of the log: a PoP, or an auditor's.
type site struct {
	name     string
	verifier bool // else it only reads
}

func (p *fleetPlan) sites() (all []site) {
	for _, name := range p.pops {
		all = append(all, site{name, true})
	}
	for _, name := range p.auditors {
		all = append(all, site{name, false})
	}
	return all
}

// issuing is one run of deploy init.
type issuing struct {
	*fleetPlan
	dir         string
	keys        keyring
	operator    nkeys.KeyPair
	signed      string // the operator's own claims
	system, hub *account
	authority   *authority
	atHub       map[string]string // signed accounts by id, as the hub's servers know them
}

// write writes all files, and names what there is for whom.
func (p *fleetPlan) write(dir string) ([]string, error) {
	d := &issuing{fleetPlan: p, dir: dir, keys: keyring{filepath.Join(dir, "keys")}, atHub: map[string]string{}}
	for _, step := range []func() error{d.begin, d.writeCommanders, d.writeSites, d.writeHub} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("write %s: %w", dir, err)
		}
	}
	return d.summary(), nil
}

// begin finds or makes the keys of operator, system account and the log's account.
func (d *issuing) begin() (err error) {
	if d.operator, err = d.keys.find("operator", nkeys.CreateOperator); err != nil {
		return err
	}
	if d.system, err = d.keys.account("system"); err != nil {
		return err
	}
	if d.hub, err = d.keys.account("log"); err != nil {
		return err
	}
	if d.authority, err = d.keys.authority(); err != nil {
		return err
	}
	id, err := d.operator.PublicKey()
	if err != nil {
		return err
	}
	d.signed, err = d.signOperator(id)
	return err
}

// sign has an account known, after change.
func (d *issuing) sign(to map[string]string, a *account, name string, change func(*jwt.AccountClaims)) error {
	claims := jwt.NewAccountClaims(a.id)
	claims.Name = name
	change(claims)
	found := jwt.CreateValidationResults()
	if claims.Validate(found); !found.IsEmpty() && found.IsBlocking(false) {
		return fmt.Errorf("account %s: %w", name, errors.Join(found.Errors()...))
	}
	signed, err := claims.Encode(d.operator)
	to[a.id] = signed
	return err
}

// unlimited gives an account JetStream.
func unlimited(c *jwt.AccountClaims) {
	c.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit}
}

// writeCommanders gives everyone who commands an account of their own.
func (d *issuing) writeCommanders() error {
	for _, owner := range d.owners {
		if err := d.writeCommander("owners", owner, "", owner); err != nil {
			return err
		}
	}
	for _, admin := range d.admins {
		project, actor, _ := strings.Cut(admin, "/")
		if err := d.writeCommander("admins", project+"."+actor, project, actor); err != nil {
			return err
		}
	}
	return nil
}

func (d *issuing) writeCommander(kind, file, project, actor string) error {
	a, err := d.keys.account(kind + "." + file)
	if err != nil {
		return err
	}
	subjects := commandSubjects(project, actor)
	err = d.sign(d.atHub, a, kind+"."+file, func(c *jwt.AccountClaims) {
		for _, subject := range subjects {
			c.Imports.Add(&jwt.Import{Name: subject, Account: d.hub.id, Subject: jwt.Subject(subject), Type: jwt.Service})
		}
	})
	if err != nil {
		return err
	}
	return a.issue(filepath.Join(d.dir, kind, file+".creds"), actor, rights{publish: subjects})
}

func (d *issuing) writeSites() error {
	for _, s := range d.sites() {
		if err := d.writeSite(&s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// writeSite gives a site one account, which the hub knows for what it imports, and the site's own server for what it keeps.
func (d *issuing) writeSite(s *site) error {
	a, err := d.keys.account("sites." + s.name)
	if err != nil {
		return err
	}
	err = d.sign(d.atHub, a, s.name, func(c *jwt.AccountClaims) { c.Imports = s.imports(d.hub.id) })
	if err != nil {
		return err
	}
	there := map[string]string{}
	if err := d.sign(there, a, s.name, unlimited); err != nil {
		return err
	}
	if err := d.signSystem(there); err != nil {
		return err
	}
	dir := filepath.Join(d.dir, "sites", s.name)
	reader := "auditor"
	if s.verifier {
		reader = "verifier"
		if err := render(filepath.Join(dir, "verifier.env"), "verifier.env", struct{ Name, Past string }{s.name, d.past}); err != nil {
			return err
		}
	}
	return errors.Join(
		a.issue(filepath.Join(dir, "leaf.creds"), s.name+" leaf", s.leafRights()),
		a.issue(filepath.Join(dir, "setup.creds"), s.name+" setup", s.mirrorRights()),
		a.issue(filepath.Join(dir, reader+".creds"), s.name, s.readerRights()),
		d.writeConf(filepath.Join(dir, "accounts.conf"), "accounts.conf", there),
		replace(filepath.Join(dir, "ca.crt"), d.authority.pem),
		encryptAtRest(filepath.Join(dir, "at-rest.conf")),
		render(filepath.Join(dir, "nats.conf"), "leaf.conf", struct {
			Name, Account string
			Hosts         []string
		}{s.name, a.id, d.Hosts}),
	)
}

func (d *issuing) signSystem(to map[string]string) error {
	return d.sign(to, d.system, "system", func(*jwt.AccountClaims) {})
}

// writeHub comes last, when all accounts are known.
func (d *issuing) writeHub() error {
	err := d.sign(d.atHub, d.hub, "log", func(c *jwt.AccountClaims) {
		unlimited(c)
		c.Exports = hubExports()
	})
	if err := errors.Join(err, d.signSystem(d.atHub)); err != nil {
		return err
	}
	secret, err := d.routeSecret()
	if err != nil {
		return err
	}
	dir := filepath.Join(d.dir, "hub")
	err = errors.Join(
		d.hub.issue(filepath.Join(dir, "registry.creds"), "registry", registryRights()),
		d.hub.issue(filepath.Join(dir, "setup.creds"), "setup", setupRights()),
		d.system.issue(filepath.Join(dir, "system.creds"), "registry's probe", probeRights("JSZ")),
		d.system.issue(filepath.Join(dir, "metrics.creds"), "metrics", probeRights("VARZ", "JSZ", "ROUTEZ", "LEAFZ", "HEALTHZ")),
		d.writeConf(filepath.Join(dir, "accounts.conf"), "accounts.conf", d.atHub),
	)
	err = errors.Join(err, replace(filepath.Join(dir, "ca.crt"), d.authority.pem), render(filepath.Join(dir, "init.env"), "init.env", struct {
		Replicas int
		Lease    time.Duration
		Hosts    []string
	}{len(d.Hosts), d.lease, d.Hosts}))
	for i, host := range d.Hosts {
		name := fmt.Sprintf("hub-%d", i+1)
		err = errors.Join(err, d.authority.certify(filepath.Join(dir, name), host), encryptAtRest(filepath.Join(dir, name+".at-rest.conf")))
		err = errors.Join(err, render(filepath.Join(dir, name+".conf"), "hub.conf", struct {
			Name, RouteSecret string
			Hosts             []string
		}{name, secret, d.Hosts}))
	}
	return err
}

// encryptAtRest writes the key by which a NATS server's disk is worth nothing without its configuration. One that is there is
// left as it is: with another the server does not find what it stored.
func encryptAtRest(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	return writeSecret(path, fmt.Appendf(nil, "# Keep a copy with your backups, apart from the disks. See docs/runbooks.md before you change it.\n"+
		"cipher: chachapoly\nkey: %q\n", rand.Text()+rand.Text()))
}

// routeSecret is by what the hub's servers know each other.
func (d *issuing) routeSecret() (string, error) {
	path := filepath.Join(d.keys.dir, "route")
	secret, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		secret = []byte(rand.Text())
		err = writeSecret(path, secret)
	}
	return string(secret), err
}

func (d *issuing) writeConf(path, name string, accounts map[string]string) error {
	return render(path, name, struct {
		Operator, System string
		Accounts         map[string]string
	}{d.signed, d.system.id, accounts})
}

func render(path, name string, values any) error {
	var text bytes.Buffer
	if err := deployFiles.ExecuteTemplate(&text, name, values); err != nil {
		return err
	}
	return replace(path, text.Bytes())
}

// replace replaces the file as a whole: servers that are told to read it again see all of it.
func replace(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

// leftOut are those with credentials in dir that the plan does not name.
func (p *fleetPlan) leftOut(dir string) (all []string) {
	named := map[string]bool{}
	for _, admin := range p.admins {
		named["admins/"+strings.Replace(admin, "/", ".", 1)+".creds"] = true
	}
	for _, owner := range p.owners {
		named["owners/"+owner+".creds"] = true
	}
	for _, s := range p.sites() {
		named["sites/"+s.name] = true
	}
	for _, kind := range []string{"admins", "owners", "sites"} {
		there, _ := os.ReadDir(filepath.Join(dir, kind)) // nobody of that kind, if it is not there
		for _, of := range there {
			if who := kind + "/" + of.Name(); !named[who] {
				all = append(all, strings.TrimSuffix(who, ".creds"))
			}
		}
	}
	return all
}

// summary says what is to be taken where.
func (d *issuing) summary() []string {
	lines := []string{
		"keys/                      the operator's: keep them where no server is",
		"hub/hub-N.*                with hub/accounts.conf and hub/ca.crt, for the NATS servers of the hub: take them to /etc/nats there",
		"hub/ca.crt                 for everyone who connects to the hub: --tls-ca",
		"hub/registry.creds         with hub/system.creds, for registries",
		"hub/setup.creds            with hub/init.env, for keyfleet init; alone for keyfleet deploy admit",
		"hub/metrics.creds          for who watches the NATS servers",
	}
	if len(d.admins)+len(d.owners) > 0 {
		lines = append(lines, "admins/, owners/           credentials of those who command")
	}
	for _, s := range d.sites() {
		lines = append(lines, fmt.Sprintf("%-26s for the machine of %s: take it to /etc/nats there", "sites/"+s.name+"/", s.name))
	}
	return lines
}
