package sparkdl

import org.apache.spark.ml.linalg.SQLDataTypes
import org.apache.spark.sql.types._

import sparkdl.engine.{TensorManifest, TensorSpec}
import sparkdl.ffi.ErrorKind

/** Which columns can feed which inputs of a model, and what its outputs are as columns. */
private[sparkdl] object TensorColumns {

  /** Inputs of a model in the order of the columns that feed them: all of them. */
  def inputs(model: TensorManifest, columns: Seq[String], names: Option[Seq[String]]): Seq[TensorSpec] = {
    val found = named(model, model.inputs, names, "input")
    val (count, all) = (model.inputs.size, listed(model.inputs))
    if (found.size != count)
      refuse(s"The model ${model.name} has $count inputs ($all) but inputNames has ${found.size}: name each of them once.")
    if (columns.size != count)
      refuse(
        s"The model ${model.name} has $count inputs ($all) but inputCols has ${columns.size} columns: give one " +
          "column per input."
      )
    found
  }

  /** Outputs of a model in the order of the columns that take them. */
  def outputs(model: TensorManifest, columns: Seq[String], names: Option[Seq[String]]): Seq[TensorSpec] = {
    val found = named(model, model.outputs, names, "output")
    if (found.size != columns.size)
      refuse(
        s"${found.size} outputs (${listed(found)}) are asked of the model ${model.name} but outputCols has " +
          s"${columns.size} columns: give one column per output, or choose by outputNames."
      )
    found
  }

  /** Refuses a column whose values cannot be the model's input. */
  def checkInput(field: StructField, input: TensorSpec, model: TensorManifest): Unit =
    change(field.dataType, input).foreach { change =>
      refuse(
        s"Column ${field.name} is of type ${StageColumns.shown(field.dataType)}, but the input ${input.name} of the model " +
          s"${model.name} takes ${values(input)} of shape ${input.shownShape} and type ${input.dtype}: $change."
      )
    }

  /** Refuses a column whose type is not the one that stands for the input's. */
  def checkSame(field: StructField, input: TensorSpec, model: TensorManifest): Unit = {
    val same = sameTypes(input.dtype)
    val isVector = field.dataType == SQLDataTypes.VectorType && input.dtype.startsWith("float")
    // What holds no values at all is refused by `checkInput`.
    nesting(field.dataType).filterNot { case (_, element) => isVector || same.contains(element) }.foreach {
      case (depth, _) =>
        val wanted = "array<" * depth + same.head.simpleString + ">" * depth
        refuse(
          s"Column ${field.name} is of type ${StageColumns.shown(field.dataType)}, but the input ${input.name} of the graph " +
            s"${model.name} takes ${values(input)} of shape ${input.shownShape} and type ${input.dtype}: cast the column to $wanted, " +
            "or set castInputs."
        )
    }
  }

  private def values(input: TensorSpec): String = if (input.dtype == "string") "texts" else "numbers"

  /** The column types that stand for a tensor's; the first is the one to cast to. */
  private def sameTypes(dtype: String): Seq[DataType] = dtype match {
    case "bool" => Seq(BooleanType)
    case "float16" | "float32" => Seq(FloatType)
    case "float64" => Seq(DoubleType)
    case "int8" => Seq(ByteType)
    case "int16" => Seq(ShortType)
    case "int32" => Seq(IntegerType)
    case "int64" => Seq(LongType)
    case "uint8" => Seq(ShortType, BinaryType)
    case "string" => Seq(StringType, BinaryType)
    case other =>
      throw ErrorKind.InvalidModel.exception(
        s"The model has an input of the type $other, which no column holds.")
  }

  /** Refuses texts where vectors are wanted. */
  def checkOutputs(outputs: Seq[TensorSpec], kind: OutputKind, model: TensorManifest): Unit =
    outputs.find(_.dtype == "string").filter(_ => kind == OutputKind.Vector).foreach { output =>
      refuse(
        s"The output ${output.name} of the model ${model.name} is of type string, which no vector holds: set outputMode to " +
          "\"array\"."
      )
    }

  /** The column type of an output: arrays nested by its shape, of numbers of its type. */
  def outputType(output: TensorSpec): DataType =
    output.shape.foldLeft(numberType(output.dtype))((kind, _) => ArrayType(kind, containsNull = false))

  private def named(
      model: TensorManifest,
      specs: Seq[TensorSpec],
      names: Option[Seq[String]],
      what: String): Seq[TensorSpec] = names.fold(specs) { names =>
    names.zipWithIndex.map { case (name, index) =>
      val found = specs.find(_.name == name)
      if (found.isEmpty)
        refuse(s"The model ${model.name} has no $what $name (${what}Names); it has ${listed(specs)}.")
      if (names.indexOf(name) < index) refuse(s"The param ${what}Names names $name twice.")
      found
    }.flatten
  }

  private def listed(specs: Seq[TensorSpec]): String = specs.map(_.name).mkString(", ")

  /** What to change about a column; nothing where it fits. */
  private def change(kind: DataType, input: TensorSpec): Option[String] = {
    val rank = input.shape.size
    val single = input.shape.isEmpty || input.shape == Seq(Some(1))
    val isBytes = input.dtype == "uint8" && rank > 0 && kind == BinaryType
    nesting(kind) match {
      case _ if isBytes => None
      case Some((_, StringType | BinaryType)) if input.dtype != "string" => Some(numbersWanted)
      case Some((_, other)) if input.dtype == "string" && other != StringType && other != BinaryType =>
        Some("cast the column to string first")
      case None => Some(numbersWanted)
      case Some((depth, _)) if !(depth == 1 || depth == rank || depth == 0 && single) =>
        Some("give " + (rank match {
          case _ if single => "a plain number, or an array of one"
          case 1 => "an array of numbers"
          case _ => s"arrays nested $rank deep, or one flat array"
        }))
      case Some((_, number)) if !holds(input.dtype, number) =>
        Some(if (input.dtype == "bool") "cast the column to boolean first"
        else "cast the column to whole numbers first")
      case _ => None
    }
  }

  private val numbersWanted = "give a column of numbers, of arrays of numbers, or of vectors"

  /** How deep numbers are nested, and their type; nothing where a column holds no numbers. */
  private def nesting(kind: DataType): Option[(Int, DataType)] = kind match {
    case SQLDataTypes.VectorType => Some((1, DoubleType))
    case ArrayType(SQLDataTypes.VectorType, _) => None
    case ArrayType(element, _) => nesting(element).map { case (depth, number) => (depth + 1, number) }
    case BooleanType | ByteType | ShortType | IntegerType | LongType | FloatType | DoubleType | StringType |
        BinaryType =>
      Some((0, kind))
    case _ => None
  }

  private def holds(dtype: String, number: DataType): Boolean = number match {
    case BooleanType => true
    case StringType | BinaryType => dtype == "string"
    case FloatType | DoubleType => dtype.startsWith("float")
    case _ => dtype != "bool"
  }

  private def numberType(dtype: String): DataType = dtype match {
    case "float16" | "float32" => FloatType
    case "float64" => DoubleType
    case "int8" => ByteType
    case "int16" => ShortType
    case "int32" => IntegerType
    case "int64" => LongType
    // Spark has no unsigned byte.
    case "uint8" => ShortType
    case "bool" => BooleanType
    case "string" => StringType
    case other =>
      throw ErrorKind.InvalidModel.exception(
        s"The model has an output of the type $other, which no column holds.")
  }

  private def refuse(message: String): Nothing = throw ErrorKind.InvalidArgument.exception(message)
}
