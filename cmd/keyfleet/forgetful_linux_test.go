package main

import (
	"context"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/stretchr/testify/require"
)

// forgetfulDisk is a file system in memory that forgets what was not synced when its power is cut. It orders as a journal does: a sync
// of one file makes every name durable that was given or taken before, and of contents that file's alone.
type forgetfulDisk struct {
	dir  string // where it is mounted
	lies bool   // a sync does nothing, and says that it did

	mu      sync.Mutex
	root    *thing
	renamed map[*thing]bool // directories that are not durable as they are
	off     bool
	refuses syscall.Errno // whatever is to be written or made; 0: nothing
	server  *fuse.Server
	number  uint64
}

// thing is a file, or a directory if it has names.
type thing struct {
	number          uint64
	mode            uint32
	names, lasting  map[string]*thing // as they are, and as they are once power was cut
	content, synced []byte
	dirty           []extent
}

type extent struct{ from, to int }

func newForgetfulDisk(t *testing.T) *forgetfulDisk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skipf("no file systems of our own here: %v", err)
	}
	d := &forgetfulDisk{dir: t.TempDir(), renamed: map[*thing]bool{}}
	d.root = d.newThing(syscall.S_IFDIR | 0o700)
	if err := d.mount(); err != nil {
		t.Skipf("no file systems of our own here: %v", err)
	}
	t.Cleanup(func() { d.unmount(t) })
	return d
}

func (d *forgetfulDisk) newThing(mode uint32) *thing {
	d.number++
	made := &thing{number: d.number + 1, mode: mode}
	if mode&syscall.S_IFDIR != 0 {
		made.names, made.lasting = map[string]*thing{}, map[string]*thing{}
	}
	return made
}

func (d *forgetfulDisk) mount() (err error) {
	d.server, err = fs.Mount(d.dir, &node{d: d, is: d.root}, &fs.Options{MountOptions: fuse.MountOptions{
		FsName: "forgetful", DirectMountStrict: true, DisableXAttrs: true, MaxWrite: 1 << 20,
	}})
	return err
}

func (d *forgetfulDisk) unmount(t *testing.T) {
	require.NoError(t, d.server.Unmount(), "whoever has files open there has to be ended before")
}

// cut fails everything from now on. Whoever used it can be ended then, and power given back.
func (d *forgetfulDisk) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
}

// restore gives power back: what was not synced is gone.
func (d *forgetfulDisk) restore(t *testing.T) {
	d.unmount(t)
	d.mu.Lock()
	d.root, d.renamed, d.off = d.root.afterwards(map[*thing]*thing{}), map[*thing]bool{}, false
	d.mu.Unlock()
	require.NoError(t, d.mount())
}

func (is *thing) afterwards(known map[*thing]*thing) *thing {
	if left, found := known[is]; found {
		return left
	}
	left := &thing{number: is.number, mode: is.mode, content: slices.Clone(is.synced), synced: slices.Clone(is.synced)}
	known[is] = left
	if is.names != nil {
		left.names = make(map[string]*thing, len(is.lasting))
		for name, of := range is.lasting {
			left.names[name] = of.afterwards(known)
		}
		left.lasting = maps.Clone(left.names)
	}
	return left
}

// sync makes the thing durable, and all names.
func (d *forgetfulDisk) sync(is *thing) {
	if d.lies {
		return
	}
	for dir := range d.renamed {
		dir.lasting = maps.Clone(dir.names)
	}
	clear(d.renamed)
	if is.synced = resized(is.synced, len(is.content)); is.names == nil {
		for _, s := range is.dirty {
			if s.from < len(is.content) {
				copy(is.synced[s.from:], is.content[s.from:min(s.to, len(is.content))])
			}
		}
	}
	is.dirty = is.dirty[:0]
}

func resized(b []byte, size int) []byte {
	if size <= len(b) {
		return b[:size]
	}
	return slices.Grow(b, size-len(b))[:size]
}

// node is a thing as the kernel sees it.
type node struct {
	fs.Inode
	d  *forgetfulDisk
	is *thing
}

// locked does something, unless power is off.
func (n *node) locked(do func() syscall.Errno) syscall.Errno {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	if n.d.off {
		return syscall.EIO
	}
	return do()
}

// changed does something to what is stored, unless the disk refuses that.
func (n *node) changed(do func() syscall.Errno) syscall.Errno {
	return n.locked(func() syscall.Errno {
		if n.d.refuses != 0 {
			return n.d.refuses
		}
		return do()
	})
}

// refuse fails all writing from now on; 0 ends that.
func (d *forgetfulDisk) refuse(with syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refuses = with
}

func (n *node) child(ctx context.Context, is *thing, out *fuse.EntryOut) *fs.Inode {
	is.tell(&out.Attr)
	return n.NewInode(ctx, &node{d: n.d, is: is}, fs.StableAttr{Mode: is.mode & syscall.S_IFMT, Ino: is.number})
}

func (is *thing) tell(out *fuse.Attr) {
	out.Mode, out.Ino, out.Nlink = is.mode, is.number, 1
	out.Size, out.Blocks = uint64(len(is.content)), uint64(len(is.content)+511)/512
}

func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (found *fs.Inode, err syscall.Errno) {
	err = n.locked(func() syscall.Errno {
		is := n.is.names[name]
		if is == nil {
			return syscall.ENOENT
		}
		found = n.child(ctx, is, out)
		return 0
	})
	return found, err
}

func (n *node) make(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (made *fs.Inode, err syscall.Errno) {
	err = n.changed(func() syscall.Errno {
		is := n.d.newThing(mode)
		n.is.names[name] = is
		n.d.renamed[n.is] = true
		made = n.child(ctx, is, out)
		return 0
	})
	return made, err
}

func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return n.make(ctx, name, syscall.S_IFDIR|mode&0o7777, out)
}

func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	made, err := n.make(ctx, name, syscall.S_IFREG|mode&0o7777, out)
	return made, opened(flags), 0, err
}

// opened is how a file was opened.
type opened uint32

func (n *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return opened(flags), 0, n.locked(func() syscall.Errno { return 0 })
}

func (n *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	return n.locked(func() syscall.Errno { n.is.tell(&out.Attr); return 0 })
}

func (n *node) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return n.locked(func() syscall.Errno {
		if size, set := in.GetSize(); set {
			was := len(n.is.content)
			n.is.content = resized(n.is.content, int(size))
			if int(size) > was {
				clear(n.is.content[was:])
			}
			n.is.dirty = append(n.is.dirty, extent{min(was, int(size)), int(size)})
		}
		if mode, set := in.GetMode(); set {
			n.is.mode = n.is.mode&syscall.S_IFMT | mode&0o7777
		}
		n.is.tell(&out.Attr)
		return 0
	})
}

func (n *node) Read(_ context.Context, _ fs.FileHandle, into []byte, at int64) (read fuse.ReadResult, err syscall.Errno) {
	err = n.locked(func() syscall.Errno {
		from := min(int(at), len(n.is.content))
		read = fuse.ReadResultData(into[:copy(into, n.is.content[from:])])
		return 0
	})
	return read, err
}

func (n *node) Write(_ context.Context, f fs.FileHandle, data []byte, at int64) (uint32, syscall.Errno) {
	return uint32(len(data)), n.changed(func() syscall.Errno {
		end := int(at) + len(data)
		was := len(n.is.content)
		if end > was {
			n.is.content = resized(n.is.content, end)
			clear(n.is.content[was:]) // what lies between is a hole
		}
		copy(n.is.content[at:], data)
		n.is.dirty = append(n.is.dirty, extent{min(was, int(at)), end})
		if how, ok := f.(opened); ok && how&(syscall.O_SYNC|syscall.O_DSYNC) != 0 {
			n.d.sync(n.is)
		}
		return 0
	})
}

func (n *node) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	return n.changed(func() syscall.Errno { n.d.sync(n.is); return 0 })
}

func (n *node) Unlink(_ context.Context, name string) syscall.Errno {
	return n.locked(func() syscall.Errno {
		delete(n.is.names, name)
		n.d.renamed[n.is] = true
		return 0
	})
}

func (n *node) Rmdir(_ context.Context, name string) syscall.Errno {
	return n.locked(func() syscall.Errno {
		if is := n.is.names[name]; is != nil && len(is.names) > 0 {
			return syscall.ENOTEMPTY
		}
		delete(n.is.names, name)
		n.d.renamed[n.is] = true
		return 0
	})
}

func (n *node) Rename(_ context.Context, name string, to fs.InodeEmbedder, newName string, _ uint32) syscall.Errno {
	return n.changed(func() syscall.Errno {
		there, is := to.(*node).is, n.is.names[name]
		delete(n.is.names, name)
		there.names[newName] = is
		n.d.renamed[n.is], n.d.renamed[there] = true, true
		return 0
	})
}

func (n *node) Readdir(context.Context) (list fs.DirStream, err syscall.Errno) {
	err = n.locked(func() syscall.Errno {
		all := make([]fuse.DirEntry, 0, len(n.is.names))
		for name, is := range n.is.names {
			all = append(all, fuse.DirEntry{Name: name, Mode: is.mode, Ino: is.number})
		}
		list = fs.NewListDirStream(all)
		return 0
	})
	return list, err
}

func (n *node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	const block, blocks = 4096, 16 << 20
	out.Bsize, out.Frsize, out.Blocks, out.Bfree, out.Bavail, out.Files, out.Ffree = block, block, blocks, blocks/2, blocks/2, 1<<20, 1<<20
	out.NameLen = 255
	return 0
}
