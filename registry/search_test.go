package registry_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/registry"
)

// A list is the same page by page, in the order that was asked for, and a search gives what going through the whole of it by hand
// gives: whatever was renamed, described anew, given another end or deleted meanwhile.
func TestSearchFindsWhatTheListHolds(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	words := []string{"Ams", "night", "BATCH", "demo", "x", "überall", ""}
	pick := func() string { return words[random.IntN(len(words))] }
	never := "never"
	const made = 300
	h, living := startHub(t, newWorld(), t.TempDir()), made
	for i := range made {
		name, text := fmt.Sprintf("key-%d-%s", i, strings.Trim(strings.ToLower(pick()), "ü")+"z"), pick()+" "+pick()
		ends := fmt.Sprintf("20%d-01-01", 30+random.IntN(5))
		h.must(t, registry.KeyCreate, registry.Request{Name: name, Description: &text, ExpiresAt: &ends})
		h.clock.Advance(time.Duration(random.IntN(3)) * time.Second)
		switch again := pick(); random.IntN(5) {
		case 0:
			h.must(t, registry.KeyEdit, registry.Request{Key: name, Name: name + "-renamed", Description: &again})
		case 1:
			h.must(t, registry.KeyExpire, registry.Request{Key: name, ExpiresAt: &never})
		case 2:
			h.must(t, registry.KeyDelete, registry.Request{Key: name})
			living--
		}
	}
	page := func(r registry.Request) *registry.KeyPage {
		reply, err := h.do(t, registry.KeyList, r)
		require.NoError(t, err)
		return reply.(*registry.KeyPage)
	}
	for _, order := range []string{"name", "-name", "created_at", "-created_at", "expires_at", "-expires_at"} {
		all := page(registry.Request{OrderBy: order, Limit: 1000}).Results
		require.Len(t, all, living)
		require.True(t, slices.IsSortedFunc(all, func(a, b registry.KeyView) int { return compare(&a, &b, order) }), order)
		for offset := 0; offset < len(all); offset += 7 {
			require.Equal(t, all[offset:min(offset+7, len(all))], page(registry.Request{OrderBy: order, Limit: 7, Offset: offset}).Results)
		}
		id := all[random.IntN(len(all))].ID
		for _, text := range []string{"AMS", "night", "batch", "ÜBER", "renamed", "key-1", "kf_", "zzz", id, id[:12], "key_"} {
			want := []string{}
			for _, k := range all {
				l := strings.ToLower(text)
				description := ""
				if k.Description != nil {
					description = *k.Description
				}
				if strings.Contains(k.Name, l) || strings.Contains(strings.ToLower(description), l) ||
					strings.Contains(strings.ToLower(k.Hint), l) || strings.HasPrefix(k.ID, l) {
					want = append(want, k.Name)
				}
			}
			var got []string
			for offset := 0; offset == 0 || offset < len(want); offset += 50 {
				found := page(registry.Request{OrderBy: order, Limit: 50, Offset: offset, Search: text})
				require.Equal(t, len(want), found.Count, text)
				for _, k := range found.Results {
					got = append(got, k.Name)
				}
			}
			require.Equal(t, strings.Join(want, " "), strings.Join(got, " "), "%s by %s", text, order)
		}
	}
}

func compare(a, b *registry.KeyView, order string) int {
	if by, descending := strings.CutPrefix(order, "-"); descending {
		return compare(b, a, by)
	}
	never := events.Never
	switch order {
	case "name":
		return cmp.Compare(a.Name, b.Name)
	case "created_at":
		return cmp.Compare(a.CreatedAt, b.CreatedAt)
	default:
		return cmp.Compare(*cmp.Or(a.ExpiresAt, &never), *cmp.Or(b.ExpiresAt, &never))
	}
}
