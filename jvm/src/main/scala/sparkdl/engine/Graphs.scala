package sparkdl.engine

import java.io.{File, FileNotFoundException, IOException}
import java.nio.file.{Files, Path, Paths}

import org.apache.hadoop.fs.{FileSystem, FileUtil, Path => HadoopPath}
import org.apache.spark.sql.SparkSession

import sparkdl.ffi.{ErrorKind, SparkDLArgumentException}

/** Makes bundles of TensorFlow graphs, on the driver. */
private[sparkdl] final class Graphs(session: SparkSession) {

  private val conf = EngineConf.of(session)
  private val cache = new CacheFolder(Paths.get(conf.cacheDir))

  /** The bundle of a graph that lies in a file or folder of any Hadoop file system. */
  def bundle(path: String, conversion: GraphConversion): Path =
    try {
      val place = new HadoopPath(path)
      val system = place.getFileSystem(session.sparkContext.hadoopConfiguration)
      if (system.getUri.getScheme == "file")
        convert(Paths.get(system.makeQualified(place).toUri.getPath), conversion)
      else
        cache.inOwnFolder("graphs") { folder =>
          copy(system, place, folder)
          named(folder.resolve(place.getName), path)(convert(_, conversion))
        }
    } catch {
      case error: FileNotFoundException =>
        throw ErrorKind.InvalidArgument.exception(s"The file $path does not exist.", error)
      case error: IOException =>
        throw ErrorKind.Io.exception(s"Cannot read $path: ${error.getMessage}", error)
    }

  /** The bundle of a serialised `GraphDef`. */
  def bundle(graph: Array[Byte], conversion: GraphConversion): Path = cache.inOwnFolder("graphs") { folder =>
    val file = Files.write(folder.resolve("graph.pb"), graph)
    named(file, "that was given")(convert(_, conversion))
  }

  private def convert(file: Path, conversion: GraphConversion): Path =
    cache.keepMade(made => Native.convertGraph(file.toString, made.toString, conversion, conf))

  /** Lets refusals of a copy name what the user knows. */
  private def named(copy: Path, shown: String)(use: Path => Path): Path =
    try use(copy)
    catch {
      case refused: SparkDLArgumentException =>
        throw refused.kind.exception(refused.getMessage.replace(copy.toString, shown), refused)
    }

  private def copy(system: FileSystem, place: HadoopPath, folder: Path): Unit = {
    val found = if (place.getName.endsWith(Graphs.metaGraph)) {
      // A checkpoint is several files, of which the user names one.
      val start = place.getName.stripSuffix(Graphs.metaGraph) + "."
      system.listStatus(place.getParent).filter(_.getPath.getName.startsWith(start)).toSeq
    } else Seq(system.getFileStatus(place))
    if (found.isEmpty) throw new FileNotFoundException(place.toString)
    found.foreach { status =>
      val target = new File(folder.toFile, status.getPath.getName)
      FileUtil.copy(system, status.getPath, target, false, system.getConf)
    }
  }
}

private object Graphs {

  /** The end of the name of a checkpoint's graph. */
  val metaGraph: String = ".meta"
}
