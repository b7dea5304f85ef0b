// Messages of proto/inference.proto as handlers see them: field names as published, 64-bit integers as decimal
// text when read (numbers are taken when written), submessages that are absent null.

/** One of the fields is there; `parameter_choice` says which. */
export interface Parameter {
  parameter_choice?: string
  bool_param?: boolean
  int64_param?: string | number
  uint64_param?: string | number
  string_param?: string
  double_param?: number
  /** Of repository parameters only. */
  bytes_param?: Uint8Array
}
export type Parameters = Record<string, Parameter>

export interface TensorContents {
  bool_contents: readonly boolean[]
  int_contents: readonly number[]
  int64_contents: readonly string[]
  uint_contents: readonly number[]
  uint64_contents: readonly string[]
  fp32_contents: readonly number[]
  fp64_contents: readonly number[]
  bytes_contents: readonly Uint8Array[]
}

export interface InputTensor {
  name: string
  datatype: string
  shape: readonly (string | number)[]
  parameters?: Parameters
  contents?: Partial<TensorContents> | null
}

export interface InferRequestMessage {
  model_name: string
  model_version: string
  id: string
  parameters: Parameters
  inputs: readonly InputTensor[]
  outputs: readonly { name: string; parameters?: Parameters }[]
  raw_input_contents: readonly Uint8Array[]
}

export interface InferResponseMessage {
  model_name: string
  model_version: string
  id: string
  parameters: Parameters
  outputs: readonly { name: string; datatype: string; shape: readonly (string | number)[] }[]
  raw_output_contents: readonly Uint8Array[]
}

export interface StreamResponseMessage {
  error_message?: string
  infer_response?: Partial<InferResponseMessage>
}

/** Of ModelReady, ModelMetadata, ModelConfig and ModelStatistics. */
export interface ModelTarget {
  name: string
  version: string
}

/** Of RepositoryModelLoad and RepositoryModelUnload. */
export interface RepositoryRequest {
  repository_name: string
  model_name: string
  parameters: Parameters
}
