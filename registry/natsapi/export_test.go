package natsapi

// DecodeRequest reads a request as a Server does.
var DecodeRequest = decodeRequest
