// Package httpapi offers commands and queries as REST, so that clients of Gcore's public inference API work when only
// their base URL is changed. One table of routes is what is served, who may call it, and what the OpenAPI document says.
//
// It promises that no call reaches a project that the admin key does not cover, that what a call does not take is refused
// and never ignored, and that every answer has a request id and is not cached. What commands mean, and when they may be
// answered, it leaves to package registry.
package httpapi
